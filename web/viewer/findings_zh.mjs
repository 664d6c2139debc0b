/**
 * Findings in Chinese: sentences by the keys of the core, what to try by the English sentence, words that values may
 * be, and the lines around them. After `export default` it is JSON, which the tests read.
 */
// prettier-ignore
export default {
  "sentences": {
    "strength: none": "{name} 什么也没有改变：{without}，模型对{where}的预测没有一个数字不同，在测量过的全部 {count} 步中都是如此（共 {total} 步，测量了第 {steps} 步）。",
    "strength: not measured where it is on": "测量过的 {count} 步（共 {total} 步，测量了第 {steps} 步）中 {name} 都是关闭的，因此那里什么也没有改变。模型在第 {on} 步看它，而这些步都没有测量。",
    "strength: too small": "{name} 的改变无法与舍入误差区分：{without}，{where}在第 {steps} 步的变化为 {strength:.2g}（潜空间单位），而仅舍入误差就有 {floor:.2g}。",
    "strength: stood in for": "{name} 单独几乎不起作用：{without}，{where}在第 {steps} 步的变化为 {strength:.2g}（潜空间单位），而 {least:.2g} 已算很小；把所有参考图一起去掉时为 {together:.2g}：它们可以互相替代。",
    "strength: weak, before guidance": "{name} 在引导之前改变很少：{without}，模型对{where}的预测在第 {steps} 步的变化为 {strength:.2g}（潜空间单位），而 {least:.2g} 已算很小。引导（cfg {guidance:.3g}）会放大它。",
    "strength: weak, before guidance that is not known": "{name} 在引导之前改变很少：{without}，模型对{where}的预测在第 {steps} 步的变化为 {strength:.2g}（潜空间单位），而 {least:.2g} 已算很小。引导（cfg）会放大它，放大多少在此未知。",
    "strength: weak": "{name} 几乎不起作用：{without}，{where}在第 {steps} 步的变化为 {strength:.2f}（潜空间单位），而 {least:.2f} 已算很小。",
    "strength: weak, beside the text": "{name} 几乎不起作用：{without}，{where}在第 {steps} 步的变化为 {strength:.2f}（潜空间单位），而 {least:.2f} 已算很小；去掉文本时为 {text:.2f}。",
    "strength: acts": "{name} 起作用：{without}，{where}在第 {steps} 步的变化为 {strength:.2f}（潜空间单位），而 {least:.2f} 算很小。",
    "strength: acts, beside the text": "{name} 起作用：{without}，{where}在第 {steps} 步的变化为 {strength:.2f}（潜空间单位），而 {least:.2f} 算很小；去掉文本时为 {text:.2f}。",
    "form: none": "{name} 带来的形状很少：它改变的内容在{where}中的起伏为 {change:.2f}（潜空间单位），那里生成的内容的起伏为 {painted:.2f}；合起来为 {form:.2f}，而 {least:.2f} 已算很小。空白或噪声的参考图就是这样。",
    "form: some": "{name} 带来了形状：它改变的内容在{where}中的起伏为 {change:.2f}（潜空间单位），那里生成的内容的起伏为 {painted:.2f}；合起来为 {form:.2f}，而 {least:.2f} 算很小。",
    "looked: in vain": "模型看了 {name}，它却什么也没有改变：在测量过的步中，{share:.2%} 的注意力落在它上面；{without}，图片的变化为 {strength:.2g}（潜空间单位）。注意力之后有什么拿走了从它读取的内容，或者它本身是空的。",
    "place: in place": "{name} 待在该在的位置：它改变的内容有 {part:.0%} 在遮罩内，而遮罩占图片的 {area:.0%}。",
    "place: bleeds": "{name} 在遮罩外也起作用：它改变的内容有 {part:.0%} 在遮罩内，而遮罩占图片的 {area:.0%}。",
    "place: bleeds, and it is lost": "{name} 在遮罩外也起作用：它改变的内容有 {part:.0%} 在遮罩内，而遮罩占图片的 {area:.0%}。采样器使用此遮罩时会还原遮罩外的内容，因此这部分会丢失。",
    "place: not there": "{name} 的作用不在遮罩处：它改变的内容有 {part:.0%} 在遮罩内，并不比随机分布更多，因为遮罩占图片的 {area:.0%}。",
    "place: not there, and it is lost": "{name} 的作用不在遮罩处：它改变的内容有 {part:.0%} 在遮罩内，并不比随机分布更多，因为遮罩占图片的 {area:.0%}。采样器使用此遮罩时会还原遮罩外的内容，因此这部分会丢失。",
    "rivals: drowned": "与 {other} 相比，{name} 几乎不起作用：{without}，图片的变化为 {strength:.2g}（潜空间单位）；没有另一张参考图时为 {most:.2g}。",
    "rivals: shared": "{other} 的作用最大：{without}，图片的变化为 {most:.2g}（潜空间单位）；没有 {name} 时为 {strength:.2g}。",
    "steps: partly on": "{name} 在 {total} 步中的 {count} 步（第 {on} 步）开启：在其余的步中没有任何部分看它。",
    "steps: never on": "{name} 在 {total} 步中的 {count} 步开启：没有任何部分看它。",
    "steps: late": "{name} 起作用较晚：它在第 {step} 步使图片变化 {less:.2g}（潜空间单位），在第 {strongest} 步变化 {most:.2g}（最后一步是第 {last} 步）。",
    "steps: fades": "{name} 起作用较早，之后减弱：它在第 {step} 步使图片变化 {less:.2g}（潜空间单位），在第 {strongest} 步变化 {most:.2g}（最后一步是第 {last} 步）。",
    "parts: object": "你在 {name} 上标出的部分被用到了：参考图各部分的作用有 {part:.0%} 来自那里，而它占参考图的 {area:.0%}。",
    "parts: background": "你在 {name} 上标出的部分并不比其余部分用得更多：参考图各部分的作用有 {part:.0%} 来自那里，而它占参考图的 {area:.0%}。",
    "rest: beside the text": "在{where}的注意力中，参考图得到 {references:.0%}，文本得到 {text:.0%}。",
    "rest: beside the text and the picture": "在{where}的注意力中，参考图得到 {references:.0%}，文本得到 {text:.0%}，其余的 {rest:.0%} 主要是图片自身。",
    "unmeasured: no effect": "没有测量参考图改变了什么：注意力只说明模型在哪里看它们，并不说明这造成了什么。",
    "unmeasured: could not": "无法测量参考图改变了什么（{reasons}）：注意力只说明模型在哪里看它们，并不说明这造成了什么。",
    "unseen: ignored": "{what}：此模型会忽略它（{how}）。",
    "unseen: elsewhere": "并非一切都能看到：{what} 经由注意力不显示的途径进入模型（{how}）。",
    "unseen: unknown": "并非一切都能看到：无法判断 {what} 起了什么作用（{how}）。",
    "unseen: not read": "给出了 {name}（{tokens} 个词元），但捕获的 {captured} 次注意力调用都没有读取它。",
    "unseen: calls": "并非一切都能看到：跳过了 {missed} 次可能读取参考图的注意力调用，捕获了 {captured} 次（{reasons}）。",
    "display: alone": "{name} 只有 {tokens} 个词元，在它的 softmax 中没有其他词元：它的份额按定义为 {share:.0f}，它在图片上的图说明不了什么。",
    "display: approximate": "{name} 的 {tokens} 个词元在参考图中的位置（网格 {grid}）是估计的：参考图上的图可能有偏差，图片上的图没有。",
    "display: flat": "{name} 在图片上的图处处相同（集中度 {concentration:.2f}，最大为 {most:.0f}）：它说明不了作用在何处，因此画成暗色。"
  },
  "tries": {
    "a higher weight on IPAdapter or IPAdapter Advanced, or strength 2 on I2AM Steer by 'output'": "提高 IPAdapter 或 IPAdapter Advanced 的 weight，或将 I2AM Steer 的 strength 设为 2、by 设为 'output'",
    "a higher strength on Apply Style Model, or strength 2 on I2AM Steer": "提高 Apply Style Model 的 strength，或将 I2AM Steer 的 strength 设为 2",
    "a higher strength on WanVaceToVideo where that gives the reference, or strength 2 on I2AM Steer": "如果参考图由 WanVaceToVideo 给出，提高它的 strength；或将 I2AM Steer 的 strength 设为 2",
    "strength 2 on I2AM Steer": "将 I2AM Steer 的 strength 设为 2",
    "an earlier start_at and a later end_at on IPAdapter or IPAdapter Advanced": "让 IPAdapter 或 IPAdapter Advanced 的 start_at 更早、end_at 更晚",
    "a weight other than 0 on IPAdapter or IPAdapter Advanced, and a start_at that is before its end_at": "将 IPAdapter 或 IPAdapter Advanced 的 weight 设为非 0 的值，并让它的 start_at 早于 end_at",
    "a strength above 0 on I2AM Steer, if you use it": "如果你使用 I2AM Steer，将它的 strength 设为大于 0 的值",
    "attn_mask on IPAdapter or IPAdapter Advanced for where it is wanted, or strength 0 on I2AM Steer where it is not: generated_region on the picture, reference_region on the reference": "用 IPAdapter 或 IPAdapter Advanced 的 attn_mask 指定需要它的地方，或在不需要它的地方将 I2AM Steer 的 strength 设为 0：图片上用 generated_region，参考图上用 reference_region",
    "more of the steps: start and end of ConditioningSetTimestepRange, or steps of I2AM Steer, if you use them": "覆盖更多的步：调整 ConditioningSetTimestepRange 的 start 和 end，或 I2AM Steer 的 steps（如果你使用它们）",
    "strength 0 on I2AM Steer where it is not wanted: generated_region on the picture, reference_region on the reference": "在不需要它的地方将 I2AM Steer 的 strength 设为 0：图片上用 generated_region，参考图上用 reference_region",
    "more probe_steps on I2AM Effect": "提高 I2AM Effect 的 probe_steps",
    "I2AM Effect on the MODEL line, before the sampler": "在采样器之前的 MODEL 连线上放 I2AM Effect",
    "I2AM Effect, with its input without connected to the same conditioning made without it": "使用 I2AM Effect，将它的 without 输入接到不带它的同一个条件",
    "giving the reference in a way that this model reads (the help of I2AM Capture lists them)": "用此模型会读取的方式给出参考图（I2AM Capture 的帮助列出了这些方式）",
    "a reference that shows what is wanted: large, sharp, and cropped to it": "换一张能显示所需内容的参考图：够大、清晰，并裁剪到该内容",
    "the same run without the node that changes what is read from the reference": "去掉改变参考图读取内容的节点，再采样一次"
  },
  "words": {
    "the picture": "图片",
    "the masked area": "遮罩区域",
    "without it": "没有它时",
    "without its direct way to the picture": "切断它直接到图片的途径时",
    "all references together": "所有参考图一起",
    "the text": "文本",
    "what the conditioning 'without' lacks": "条件 'without' 所缺少的内容"
  },
  "lines": {
    "What is called little here is a rule of thumb: it was measured on one small model.": "这里所说的“很小”是经验值：它是在一个小模型上测得的。",
    "Try: {}.": "可以尝试：{}。",
    "Try: {} (a guess, until a second run shows it).": "可以尝试：{}（在第二次采样证实之前只是猜测）。"
  }
}
