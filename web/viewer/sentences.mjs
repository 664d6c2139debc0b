/** What findings say, in a person's language: English as the file has it, or from the templates of another language. */

import { worded } from "./findings.mjs";
import ZH from "./findings_zh.mjs";

/** @import { HeaderFinding, HeaderTry } from "./header.d.ts" */

/**
 * @typedef {object} Sentences
 * @property {(finding: HeaderFinding) => string} finding
 * @property {(advice: HeaderTry) => string} advice
 * @property {string} ofThumb what is to be known of thresholds
 */

const TRY = "Try: {}.";
const GUESS = "Try: {} (a guess, until a second run shows it).";
const OF_THUMB = "What is called little here is a rule of thumb: it was measured on one small model.";
const REFERENCE = /^reference (\d+) \('(.*)'\)$/s;
const OF_STEER = /^(.*) \(reference (\d+) of I2AM Steer\)$/s;

/** @type {Sentences} */
const ENGLISH = {
  finding: ({ sentence }) => sentence,
  advice: ({ sentence, measures }) => (measures ? TRY : GUESS).replace("{}", () => sentence),
  ofThumb: OF_THUMB,
};

/** @type {{sentences: Record<string, string>, tries: Record<string, string>, words: Record<string, string>, lines: Record<string, string>}} */
const { sentences, tries, words, lines } = ZH;

/** @type {Sentences} */
const CHINESE = {
  finding({ key, values, sentence }) {
    const template = sentences[key];
    const named = Object.entries(values).map(([name, value]) => [name, inChinese(value)]);
    return template ? worded(template, Object.fromEntries(named)) : sentence;
  },
  advice({ sentence, measures }) {
    const [, alone, number] = sentence.match(OF_STEER) ?? [];
    const text = tries[alone ?? sentence] ?? sentence;
    const of = alone ? `${text}（I2AM Steer 的参考图 ${number}）` : text;
    return lines[measures ? TRY : GUESS].replace("{}", () => of);
  },
  ofThumb: lines[OF_THUMB],
};

/** @param {string | number} value */
function inChinese(value) {
  if (typeof value === "number") return value;
  return words[value] ?? value.replace(REFERENCE, (_, number, name) => `参考图 ${number}（'${name}'）`);
}

/**
 * @param {unknown} locale such as "zh"
 * @returns {Sentences}
 */
export function sentencesIn(locale) {
  return String(locale).toLowerCase().startsWith("zh") ? CHINESE : ENGLISH;
}
