"""What of a viewer in the page is for those who do not point, or do not see well: scripts that read it."""

LEAST_CONTRAST, LEAST_TARGET = 4.5, 24  # WCAG 2.2 AA: of text, and px of what is pressed
# Of what axe looks at in an element: not how a whole page is divided.
AXE = """async root => {
    const result = await axe.run(root, {rules: {region: {enabled: false}, "target-size": {enabled: true}}});
    return result.violations.flatMap(({id, help, nodes}) => nodes.map(one => [id, help, one.html.slice(0, 160)]));
}"""
# [words, contrast] of each text that is seen, and what is behind it. What is on a picture may be on white, or on black.
CONTRASTS = """root => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((x, i) => a * x + (1 - a) * under[i]);
    const linear = x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const ratio = (a, b) => {
        const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = (element, bottom) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement ?? at.getRootNode().host) {
            const color = rgba(getComputedStyle(at).backgroundColor);
            layers.unshift(color);
            if (color[3] === 1 || (bottom && at.matches(".box"))) break;
        }
        return layers.reduce((under, color) => over(color, under), bottom ?? [255, 255, 255]);
    };
    const walker = document.createTreeWalker(root.shadowRoot, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
        const element = text.parentElement;
        if (!text.data.trim() || element.closest("style, :disabled, [hidden], .none")) continue;
        if (!element.checkVisibility()) continue;
        const bottoms = element.closest(".box") ? [[255, 255, 255], [0, 0, 0]] : [null];
        for (const bottom of bottoms) {
            const under = behind(element, bottom);
            const color = over(rgba(getComputedStyle(element).color), under);
            found.push([text.data.trim().slice(0, 40), ratio(color, under)]);
        }
    }
    return found;
}"""
# Of what can be pressed: [what, width, height].
TARGETS = """root => [...root.shadowRoot.querySelectorAll("button, select, summary, input, [tabindex]")]
    .filter(element => element.checkVisibility())
    .map(element => [element.outerHTML.slice(0, 80), element.offsetWidth, element.offsetHeight])"""
# What has the focus, and whether that is to be seen.
FOCUSED = """() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    const seen = [element, element.parentElement].some(one => one && one.matches(":focus-within")
        && getComputedStyle(one).outlineStyle !== "none" && parseFloat(getComputedStyle(one).outlineWidth) >= 2);
    return [element.getAttribute("aria-label") ?? element.textContent.trim().slice(0, 30), element.tagName, seen];
}"""
# What is cut off at its end, of what has a height of its own.
CUT = """root => {
    const fixed = "button, select, summary, .name, output, .legend, .numbers, .row > *";
    return [...root.shadowRoot.querySelectorAll(fixed)]
        .filter(one => one.checkVisibility() && one.clientHeight)
        .filter(one => one.scrollHeight > one.clientHeight + 1
            || (one.matches("button, summary") && one.scrollWidth > one.clientWidth + 1))
        .map(one => [one.className || one.tagName, one.textContent.slice(0, 40)]);
}"""
