/** The viewer's words. English is the key; what has no translation stays English. */

/** @typedef {(text: string, ...values: unknown[]) => string} Say a text of ours in the user's language */

/** @type {Record<string, string>} */
const ZH = {
  "Where the reference acts": "参考图作用在何处",
  "Which parts were used": "用到了参考图的哪些部分",
  "Where the marked part went": "所选部分去了哪里",
  "Which parts made the marked part": "哪些部分生成了所选区域",
  "reference to generated": "参考图到生成图",
  "generated to reference": "生成图到参考图",
  "Step": "步",
  "Layer": "层",
  "Head": "头",
  "all": "全部",
  "play": "播放",
  "pause": "暂停",
  "mean of {0} steps": "{0} 步的平均",
  "step {0} of {1}": "第 {0} 步，共 {1} 步",
  "steps {0} to {1} of {2}": "第 {0} 至 {1} 步，共 {2} 步",
  "mean of {0} layers": "{0} 层的平均",
  "mean of heads": "所有头的平均",
  "heads are not resolved": "未区分各个头",
  "head {0} of {1}": "第 {0} 头，共 {1} 头",
  "head {0} of {1}, in {2} layers": "第 {0} 头，共 {1} 头，{2} 层",
  "where queries match (paper)": "查询与何处匹配（论文）",
  "how much it was looked at (share)": "被看了多少（份额）",
  "scale: each map": "刻度：每张图",
  "scale: over time": "刻度：各步统一",
  "heat": "热图",
  "heat (paper)": "热图（论文）",
  "jet (paper)": "jet（论文）",
  "contours": "等高线",
  "picture only": "仅图片",
  "What a value says": "数值的含义",
  "What the colours span": "颜色的范围",
  "How maps are drawn": "绘制方式",
  "Colours": "配色",
  "Strength of the heat": "热图强度",
  "Reference": "参考图",
  "{0}: {1} (never read)": "{0}：{1}（从未读取）",
  "Picture of the batch": "批次中的图片",
  "picture {0}": "图片 {0}",
  "Move both panes together": "两侧一起移动",
  "Whole pictures": "完整显示图片",
  "Full screen": "全屏",
  "Save": "保存",
  "Copy as JSON": "复制为 JSON",
  "Save view as PNG": "将视图保存为 PNG",
  "Save all steps as animated WebP": "将所有步保存为 WebP 动画",
  "copied": "已复制",
  "saved": "已保存",
  "could not copy: {0}": "无法复制：{0}",
  "could not save: {0}": "无法保存：{0}",
  "Clear": "清除",
  "Tables": "表格",
  "steps x layers": "步 x 层",
  "layers x heads": "层 x 头",
  "share of attention": "注意力份额",
  "concentration": "集中度",
  "inside the mask": "遮罩内",
  "What the bars and tables show": "柱与表格显示的量",
  "share {0}": "份额 {0}",
  "IMACS {0}": "IMACS {0}",
  "inside the mask {0}": "遮罩内 {0}",
  "concentration {0}": "集中度 {0}",
  "approximate": "近似",
  "a guess": "推测",
  "scope: inpainting mask": "范围：重绘遮罩",
  "scope: whole image": "范围：整张图片",
  "mean of all steps and heads of {0} layers": "{0} 层中所有步和头的平均",
  "of layer {0}, all steps and heads": "第 {0} 层，所有步和头",
  "nothing was captured here": "此处没有捕获数据",
  "Nothing anywhere: this map is 0.": "各处皆无：此图为 0。",
  "100 % everywhere: nothing competes with this reference here, so its share says nothing.":
    "处处 100 %：此处没有任何东西与此参考图竞争，因此其份额不说明任何问题。",
  "The same everywhere: {0}. No place counts more than another.": "处处相同：{0}。没有哪一处比别处更重要。",
  "Bars begin at 0: the tallest is the largest of all.": "柱从 0 开始：最高的就是最大值。",
  "colours: {0} to {1}": "颜色：{0} 至 {1}",
  "This reference's tokens have no place in its image, so there is no map on it.":
    "此参考图的词元在图中没有位置，因此没有对应的图。",
  "One head in one step did not fit into the viewer's file: the other is set to all.":
    "查看器文件放不下单步中的单个头：另一项已设为全部。",
  "To ask about a part, set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere', and queue again.":
    "要询问某个部分，请将 I2AM Capture 的 pair_maps 设为 'inpainting mask' 或 'everywhere'，然后重新运行。",
  "No pair maps here: this lies outside the inpainting mask. Set pair_maps of I2AM Capture to 'everywhere' to ask anywhere.":
    "此处没有成对的图：它在重绘遮罩之外。将 I2AM Capture 的 pair_maps 设为 'everywhere' 即可询问任何位置。",
  "This layer has no pair maps: choose another, or all layers.": "此层没有成对的图：请选择其他层或全部层。",
  "The pair maps of this layer did not fit into the viewer's file: choose all layers, or use I2AM Specific Reference.":
    "此层成对的图未能放入查看器文件：请选择全部层，或使用 I2AM Specific Reference。",
  "Click a picture, or draw a box on it, to ask about that part.": "点击图片或在其上框选，即可询问该部分。",
  "bars: {0}": "柱：{0}",
  "Queue the workflow, and this shows how the reference acts.": "运行工作流后，这里会显示参考图如何起作用。",
  "The last result is not on the server any more: queue again to explore.": "上次的结果已不在服务器上：请重新运行。",
  "Loading {0} %": "正在加载 {0} %",
  "Running. Below is the last result.": "运行中。下面是上一次的结果。",
  "Running.": "运行中。",
  "This run has no maps: I2AM Collect is bypassed, or nothing is connected to attribution.":
    "此次运行没有图：I2AM Collect 被绕过，或 attribution 未连接。",
  "These maps are of another run.": "这些图来自另一次运行。",
  "{0} of {1} was {2}, and is {3} now.": "{1} 的 {0} 当时为 {2}，现在为 {3}。",
  "{0} is connected otherwise now.": "{0} 现在的连接不同。",
  "{0} more settings differ.": "还有 {0} 项设置不同。",
  "The last run failed. Below is the result before it.": "上次运行失败。下面是之前的结果。",
  "The last run failed: its message says why.": "上次运行失败：错误信息说明了原因。",
  "The result could not be read: {0}": "无法读取结果：{0}",
  "all {0} attention calls that hold the reference were read": "已读取含有参考图的全部 {0} 次注意力调用",
  "{0} attention calls that may hold a reference were not read": "有 {0} 次可能含有参考图的注意力调用未被读取",
  "noise left {0}": "剩余噪声 {0}",
  "The part of the attention that the reference gets. Compare it between steps or layers.":
    "参考图获得的注意力份额。请在步或层之间比较。",
  "1 is the best. Below 0, too much lies outside the mask. It is of 'where', whatever is displayed.":
    "1 为最佳。低于 0 表示过多落在遮罩之外。无论显示什么，它都属于“何处”。",
  "By chance it would be {0}: the mask's part of the picture.": "若随机分布则为 {0}：即遮罩占图片的比例。",
  "0: the same everywhere. 1: all in one place.": "0：处处相同。1：全在一处。",
  "What the prediction changes by without it. Ten times the noise floor or more is measured.":
    "没有它时预测的变化。达到噪声底的十倍以上即为可测。",
  "What the prediction changes by where nothing is taken away.": "什么都不拿掉时预测的变化。",
  "'What it changed' was measured by taking it away. 'How much' is the part of all attention. 'Where' compares places.":
    "“改变了什么”是通过拿掉它测得的。“多少”是占全部注意力的份额。“何处”比较位置。",
  "Each map has its own colours, or all steps have one scale, by which they compare.":
    "每张图各用自己的颜色范围，或所有步共用一个范围以便比较。",
  "'Heat' lies over the picture. 'Heat (paper)' is added to it: that clips where the picture is bright.":
    "“热图”覆盖在图片上。“热图（论文）”与图片相加：图片明亮处会过曝。",
  "From little to much. The hottest spot of jet, the paper's, is a dark hole to colour-blind eyes.":
    "从少到多。论文所用 jet 的最热处在色盲者眼中是一个暗洞。",
  "steered": "已调控",
  "notes": "说明",
  "{0} of {1} attention calls skipped": "跳过了 {1} 次注意力调用中的 {0} 次",
  "Viewer of I2AM": "I2AM 查看器",
  "strongest patches": "最强的图块",
  "What the reference changed": "参考图改变了什么",
  "What all references together changed": "所有参考图一起改变了什么",
  "What the text changed": "文本改变了什么",
  "What differs from 'without'": "与 'without' 的差别",
  "What each part of the reference changed": "参考图的每个部分改变了什么",
  "Which parts changed the marked part": "哪些部分改变了所选区域",
  "What the marked part changed": "所选部分改变了什么",
  "difference without it, in units of the latent": "没有它时的差异，以潜空间的单位计",
  "directly: by the picture's own positions alone": "直接：仅经由图片自身的位置",
  "in the whole picture": "在整张图片中",
  "in the mask": "在遮罩内",
  "each part taken away alone": "逐个拿掉每个部分",
  "only this part left": "只留下这个部分",
  "Too weak for a map: its effect of {0} is less than ten times the noise floor, {1}.":
    "太弱，无法成图：效果为 {0}，不到噪声底 {1} 的十倍。",
  "Too small to measure: its effect of {0} is less than three times the noise floor, {1}.":
    "太小，无法测量：效果为 {0}，不到噪声底 {1} 的三倍。",
  "No effect at all: not a digit changes.": "完全没有效果：没有一个数字改变。",
  "nothing was measured here": "此处没有测量数据",
  "To see what each part of the reference changed, set regions of I2AM Effect, and queue again.":
    "要查看参考图每个部分改变了什么，请设置 I2AM Effect 的 regions，然后重新运行。",
  "Only a single reference has parts: choose one above.": "只有单个参考图才分部分：请在上方选择一个。",
  "The maps of these parts did not fit into the viewer's file: use I2AM Specific Reference.":
    "这些部分的图未能放入查看器文件：请使用 I2AM Specific Reference。",
  "An effect is of the whole model: nothing is taken away from one layer or head alone.":
    "效果属于整个模型：不会只从某一层或某个头拿掉什么。",
  "effect: no layers": "效果不分层",
  "effect: no heads": "效果不分头",
  "mean of the {0} measured steps": "{0} 个测量步的平均",
  "effect {0}": "效果 {0}",
  "effect {0} in the mask, {1} everywhere": "遮罩内效果 {0}，整体 {1}",
  "{0} in the mask ({1} of the area)": "{0} 在遮罩内（占面积 {1}）",
  "noise floor {0}": "噪声底 {0}",
  "not every effect was measured": "并非所有效果都已测量",
  "Click the picture: which parts changed that spot? Click the reference: where did that part change it?":
    "点击图片：哪些部分改变了该处？点击参考图：该部分改变了何处？",
  "what it changed (effect)": "改变了什么（效果）",
  "How it reaches the picture": "经由何种途径到达图片",
  "How the effect of a part was measured": "部分的效果如何测量",
  "by any way": "经任何途径",
  "directly": "直接",
  "part taken away": "拿掉一个部分",
  "only part left": "只留一个部分",
  "all references": "所有参考图",
  "the text": "文本",
  "compared with 'without'": "与 'without' 比较",
  "Findings": "发现",
  "Shows what proves it.": "显示证据。",
  "something is wrong": "有问题",
  "good to know": "需要知道",
  "as it should be": "正常",
  "{0} more": "还有 {0} 条",
  "fewer": "收起",
  "{0}: {1} (not measured)": "{0}：{1}（未测量）",
};

/**
 * Words in the language of a locale such as "zh"; `{0}` stands for the first value.
 * @param {unknown} locale
 * @returns {Say}
 */
export function translator(locale) {
  const words = String(locale).toLowerCase().startsWith("zh") ? ZH : {};
  return (text, ...values) => (words[text] ?? text).replace(/\{(\d)\}/g, (_, number) => String(values[number]));
}

export const translated = Object.keys(ZH);
