/** Work that is done with the browser's next frame, once, however often it is wanted. */

export class Frame {
  /** @param {() => void} work */
  constructor(work) {
    this.work = work;
    /** @type {number | null} */
    this.number = null;
  }

  request() {
    this.number ??= requestAnimationFrame(() => {
      this.number = null;
      this.work();
    });
  }

  cancel() {
    if (this.number !== null) cancelAnimationFrame(this.number);
    this.number = null;
  }
}
