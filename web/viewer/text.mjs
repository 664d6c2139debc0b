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
  "where (paper)": "何处（论文）",
  "how much (share)": "多少（份额）",
  "scale: each map": "刻度：每张图",
  "scale: over time": "刻度：各步统一",
  "heat": "热图",
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
  "The last run failed. Below is the result before it.": "上次运行失败。下面是之前的结果。",
  "The last run failed: its message says why.": "上次运行失败：错误信息说明了原因。",
  "The result could not be read: {0}": "无法读取结果：{0}",
  "steered": "已调控",
  "notes": "说明",
  "{0} of {1} attention calls skipped": "跳过了 {1} 次注意力调用中的 {0} 次",
  "Viewer of I2AM": "I2AM 查看器",
  "strongest patches": "最强的图块",
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
