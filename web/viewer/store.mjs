/** The state of a viewer, and who is to know when it has changed. */

/** @import { State } from "./state.mjs" */

/**
 * @typedef {object} Change
 * @property {State} state
 * @property {State} before
 * @property {boolean} lasting whether the workflow is to keep it
 */

export class Store {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    /** @type {Set<(change: Change) => void>} */
    this.listeners = new Set();
  }

  /**
   * Call `listener` after each change.
   * @param {(change: Change) => void} listener
   * @returns {() => void} what ends that
   */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * @param {State} state
   * @param {boolean} [lasting] whether the workflow is to keep it
   */
  set(state, lasting = false) {
    const before = this.state;
    this.state = state;
    for (const listener of this.listeners) listener({ state, before, lasting });
  }
}
