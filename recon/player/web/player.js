"use strict";
// The player: playback, the worker that sorts, and what is drawn when.

const MAX_PIXEL_RATIO = 2;
const SLOW_MILLISECONDS = 40; // a frame that takes longer is drawn with fewer pixels while it moves
const SMALLEST_SCALE = 0.5;

/** @typedef {{id: number, scene: Scene, set: SplatSet}} Picture */

class Player {
  /** @param {HTMLCanvasElement} canvas @param {string} workerSource @param {(error: Error) => void} onFailure */
  constructor(canvas, workerSource, onFailure) {
    this.canvas = canvas;
    this.onFailure = onFailure;
    this.renderer = new Renderer(canvas);
    const address = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
    this.worker = new Worker(address);
    URL.revokeObjectURL(address);
    this.worker.onmessage = (event) => this.sorted(event.data);
    this.worker.onerror = (event) => onFailure(new Error(`The sorting of the scene stopped: ${event.message}`));
    /** @type {Scene | null} */
    this.scene = null;
    /** @type {OrbitCamera | null} */
    this.camera = null;
    this.playing = false;
    this.pingPong = false;
    this.speed = 1;
    this.elapsed = 0; // frames of playback, in [0, frames) or, back and forth, beyond
    this.background = [1, 1, 1];
    this.stillness = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.onChange = () => {};
    this.scale = 1; // of the resolution while the picture moves
    this.sorts = 0; // finished sorts, and the milliseconds of the last one
    this.sortMilliseconds = 0;
    this.drawn = 0;
    /** @type {Picture | null} */
    this.wanted = null; // what the worker has
    /** @type {Picture | null} */
    this.shown = null; // what the graphics unit has
    this.sets = 0; // given to the worker
    this.sorting = false;
    this.sortedKey = "";
    /** @type {Uint32Array<ArrayBuffer>} */
    this.order = new Uint32Array(0);
    this.pending = 0;
    this.lastTick = 0;
    /** @type {(() => void)[]} */
    this.waiting = [];
    new ResizeObserver(() => this.invalidate()).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.restore());
  }

  /** Show a scene; a later one keeps camera and time. @param {Scene} scene */
  setScene(scene) {
    const { header } = scene;
    const position = this.position;
    this.scene = scene;
    if (this.camera === null) {
      this.camera = new OrbitCamera(header.camera, header.focus, header.unit, header.source);
      this.background = header.background;
    }
    this.elapsed = Math.min(position, header.times.length - 1);
    this.invalidate();
    this.onChange();
  }

  get frames() {
    return this.scene?.header.times.length ?? 1;
  }

  /** Position of playback in frames. */
  get position() {
    return playbackPosition(this.elapsed, this.frames, this.pingPong);
  }

  /** Time of the scene in [0, 1]. */
  get time() {
    return this.scene ? timeAt(this.scene.header.times, this.position) : 0;
  }

  /** Go to a position in frames. @param {number} position */
  seek(position) {
    this.elapsed = Math.min(this.frames - 1, Math.max(0, position));
    this.invalidate();
    this.onChange();
  }

  /** Go to a time of the scene in [0, 1]. @param {number} time */
  seekTime(time) {
    const { left, weight } = bracket(this.scene?.header.times ?? [0], time);
    this.seek(left + weight);
  }

  /** @param {boolean} playing */
  setPlaying(playing) {
    this.playing = playing && this.frames > 1;
    this.lastTick = 0;
    this.invalidate();
    this.onChange();
  }

  /** @param {boolean} pingPong */
  setPingPong(pingPong) {
    this.elapsed = Math.min(this.position, this.frames - 1);
    this.pingPong = pingPong;
    this.onChange();
  }

  /** Draw with the next animation frame. */
  invalidate() {
    if (this.pending === 0) this.pending = requestAnimationFrame((now) => this.tick(now));
  }

  /** Wait until the picture of the current time and camera is on the canvas. @returns {Promise<void>} */
  settled() {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.invalidate();
    });
  }

  /** @param {number} now milliseconds */
  tick(now) {
    this.pending = 0;
    const { scene, camera } = this;
    if (scene === null || camera === null || this.renderer.gl.isContextLost()) return;
    const seconds = this.lastTick ? Math.min(0.25, (now - this.lastTick) / 1000) : 0;
    this.lastTick = now;
    if (this.playing) {
      this.elapsed += seconds * scene.header.fps * this.speed;
      this.elapsed %= this.pingPong ? Math.max(1, 2 * (this.frames - 1)) : this.frames;
      this.onChange();
    }
    const moving = camera.step(seconds, this.stillness) || this.playing;
    this.adapt(seconds, moving);
    this.resize(moving);
    const current = this.requestSort(scene, camera);
    this.draw();
    if (moving) this.invalidate();
    else {
      this.lastTick = 0;
      if (current) for (const resolve of this.waiting.splice(0)) resolve();
    }
  }

  /** Lower the resolution where drawing is slow, raise it where it is fast. @param {number} seconds @param {boolean} moving */
  adapt(seconds, moving) {
    if (!moving || seconds === 0) return;
    const slow = 1000 * seconds > SLOW_MILLISECONDS;
    this.slowness = Math.min(20, Math.max(-120, (this.slowness ?? 0) + (slow ? 1 : -1)));
    if (this.slowness === 20 && this.scale > SMALLEST_SCALE) this.scale -= 0.25;
    else if (this.slowness === -120 && this.scale < 1) this.scale += 0.25;
    else return;
    this.slowness = 0;
  }

  /** @param {boolean} moving */
  resize(moving) {
    const ratio = Math.min(MAX_PIXEL_RATIO, devicePixelRatio) * (moving ? this.scale : 1);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
  }

  /** Ask the worker for the order of the current view, unless it is busy.
   * @param {Scene} scene @param {OrbitCamera} camera @returns {boolean} whether the picture is up to date */
  requestSort(scene, camera) {
    const set = scene.sets[scene.header.kind === "frames" ? Math.min(scene.sets.length - 1, Math.round(this.position)) : 0];
    if (this.wanted?.set !== set) {
      this.wanted = { id: ++this.sets, scene, set };
      const { means, joints, weights } = set.arrays;
      const [low, high] = set.ranges.means;
      const step = low.map((x, i) => (high[i] - x) / 65535);
      this.worker.postMessage({ kind: "load", scene: this.sets, means, joints, weights, count: set.count, low, step });
    }
    const view = camera.view(this.canvas.width, this.canvas.height, this.time);
    const row = [...view.rotation.slice(6), view.translation[2]];
    const key = `${this.wanted.id} ${this.time} ${row}`;
    if (this.sorting) return false;
    if (key === this.sortedKey) return this.shown === this.wanted;
    this.sorting = true;
    this.sortedKey = key;
    if (this.order.length !== set.count) this.order = new Uint32Array(set.count);
    /** @type {SortMessage} */
    const message = { kind: "sort", scene: this.wanted.id, row, order: this.order, ...this.motion(scene, set) };
    this.worker.postMessage(message, [this.order.buffer]);
    return false;
  }

  /** @param {SortedMessage} message */
  sorted(message) {
    const { wanted } = this;
    this.sorting = false;
    this.sorts++;
    this.sortMilliseconds = message.milliseconds;
    this.order = message.order;
    this.invalidate();
    if (message.scene !== wanted?.id) return;
    try {
      if (this.shown !== wanted) this.renderer.setScene(wanted.scene, wanted.set);
      this.shown = wanted;
      this.renderer.setOrder(message.order);
    } catch (error) {
      this.onFailure(/** @type {Error} */ (error));
    }
  }

  /** Motion of a set at the current time. @param {Scene} scene @param {SplatSet} set
   * @returns {{left: number, right: number, weight: number, motions?: Float32Array}} */
  motion(scene, set) {
    const { kind, times, motion_times } = scene.header;
    if (kind === "bones") return { left: 0, right: 0, weight: 0, motions: boneMotions(set, motion_times, this.time) };
    if (kind !== "keyframes") return { left: 0, right: 0, weight: 0 };
    const { left, weight } = bracket(times, this.time);
    return { left, right: weight > 0 ? left + 1 : left, weight };
  }

  draw() {
    const { camera, shown } = this;
    if (camera === null || shown === null) return;
    const { left, right, weight, motions } = this.motion(shown.scene, shown.set);
    this.renderer.setMotion(left, right, weight, motions);
    this.renderer.draw(camera.view(this.canvas.width, this.canvas.height, this.time), this.background);
    this.drawn++;
  }

  /** Upload everything again after the browser gave the graphics unit back. */
  restore() {
    this.renderer = new Renderer(this.canvas);
    this.wanted = null;
    this.invalidate();
  }
}
