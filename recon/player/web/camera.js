"use strict";
// A camera that turns around a point and starts at the camera of the input view. World: +Z up.
// It can have the lens of the whole video, of which the input view is a part: the same pose with
// another focal length, and a principal point that follows the object across the video, until one orbits.

const MAX_PITCH = (89.5 * Math.PI) / 180;
const EASE_SECONDS = 0.07;

/** @typedef {{target: number[], yaw: number, pitch: number, roll: number, distance: number, lens: number}} Pose
 * `lens` is 0 for that of the input view, 1 for that of the whole video */

class OrbitCamera {
  /** @param {InputCamera} input @param {number[]} focus @param {number} unit of the scene, in that of the world
   * @param {SourceCamera | null} [source] */
  constructor(input, focus, unit, source) {
    this.input = input;
    this.source = source ?? null;
    this.focus = focus;
    this.unit = unit;
    this.home = poseOfCamera(input, focus, unit);
    this.now = copied(this.home);
    this.goal = copied(this.home);
    this.time = 0; // of the last view
    this.held = /** @type {number | null} */ (null); // time at which the principal point stopped
  }

  /** Go to the input camera: that of the whole video, or back from there to that of the input view.
   * @param {boolean} [close] whether to go to the input view in any case */
  reset(close) {
    const { goal, home } = this;
    const turns = (goal.yaw - home.yaw) / (2 * Math.PI);
    const turned = Math.abs(turns - Math.round(turns)) > 1e-6 || goal.pitch !== home.pitch || goal.roll !== home.roll;
    const there = !turned && goal.distance === home.distance && goal.target.every((x, i) => x === home.target[i]);
    const lens = this.source === null || close || (there && goal.lens === 1) ? 0 : 1;
    this.goal = { ...copied(this.home), lens };
    this.held = null;
    this.goal.yaw += 2 * Math.PI * Math.round((this.now.yaw - this.home.yaw) / (2 * Math.PI)); // the short way
  }

  /** Turn around the target. @param {number} yaw @param {number} pitch radians */
  orbit(yaw, pitch) {
    this.goal.yaw += yaw;
    this.goal.pitch = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, this.goal.pitch + pitch));
    this.goal.roll = 0;
    this.held ??= this.time; // from another side, the object would seem to slide
  }

  /** Move the target in the image plane. @param {number} x @param {number} y pixels @param {number} focal */
  pan(x, y, focal) {
    const { right, up } = basis(this.goal);
    const scale = this.goal.distance / focal;
    this.goal.target = this.goal.target.map((value, i) => value - scale * (x * right[i] - y * up[i]));
  }

  /** Change the distance by a factor. @param {number} factor */
  zoom(factor) {
    const { distance } = this.home;
    this.goal.distance = Math.min(20 * distance, Math.max(0.05 * distance, this.goal.distance * factor));
  }

  /** Ease towards the goal. @param {number} seconds @param {boolean} atOnce @returns {boolean} whether it moved */
  step(seconds, atOnce) {
    const share = atOnce ? 1 : 1 - Math.exp(-seconds / EASE_SECONDS);
    let moved = 0;
    const mixed = (/** @type {number} */ a, /** @type {number} */ b, unit = 1) => {
      moved = Math.max(moved, Math.abs(b - a));
      return Math.abs(b - a) < 1e-5 * unit ? b : a + share * (b - a);
    };
    const { now, goal, unit } = this;
    now.target = now.target.map((value, i) => mixed(value, goal.target[i], unit));
    now.distance = mixed(now.distance, goal.distance, unit);
    for (const name of /** @type {const} */ (["yaw", "pitch", "roll", "lens"])) now[name] = mixed(now[name], goal[name]);
    return moved > 0;
  }

  /** Focal lengths and principal point on a canvas that contains the whole image.
   * @param {number} width @param {number} height @param {number} time in [0, 1] */
  lens(width, height, time) {
    const fitted = (/** @type {InputCamera} */ camera, /** @type {number} */ cx, /** @type {number} */ cy) => {
      const scale = Math.min(width / camera.w, height / camera.h);
      return [scale * camera.fl_x, scale * camera.fl_y, width / 2 + scale * (cx - camera.w / 2), height / 2 + scale * (cy - camera.h / 2)];
    };
    const { input, source, now } = this;
    let numbers = fitted(input, input.cx, input.cy);
    if (source !== null && now.lens > 0) {
      const { left, weight } = bracket(source.frames.map((frame) => frame.time), this.held ?? time);
      const [a, b] = [source.frames[left], source.frames[Math.min(left + 1, source.frames.length - 1)]];
      const whole = fitted(source, a.cx + weight * (b.cx - a.cx), a.cy + weight * (b.cy - a.cy));
      numbers = numbers.map((x, i) => x + now.lens * (whole[i] - x));
    }
    return { focal: numbers.slice(0, 2), center: numbers.slice(2) };
  }

  /** @param {number} width @param {number} height of the canvas in pixels @param {number} time in [0, 1] @returns {View} */
  view(width, height, time) {
    this.time = time;
    const { now } = this;
    const { right, up, back } = basis(now);
    const rotation = [...right, ...up.map((x) => -x), ...back.map((x) => -x)];
    const position = now.target.map((x, i) => x + now.distance * back[i]);
    const translation = [0, 3, 6].map((row) => -dot(rotation.slice(row, row + 3), position));
    return { rotation, translation, ...this.lens(width, height, time) };
  }
}

/** @param {Pose} pose @returns {Pose} */
function copied(pose) {
  return { ...pose, target: [...pose.target] };
}

/** Axes of the camera in the world. @param {{yaw: number, pitch: number, roll: number}} pose */
function basis({ yaw, pitch, roll }) {
  const back = [Math.sin(yaw) * Math.cos(pitch), -Math.cos(yaw) * Math.cos(pitch), Math.sin(pitch)];
  const level = [Math.cos(yaw), Math.sin(yaw), 0];
  const upright = [back[1] * level[2] - back[2] * level[1], back[2] * level[0] - back[0] * level[2], back[0] * level[1] - back[1] * level[0]];
  const [c, s] = [Math.cos(roll), Math.sin(roll)];
  return { right: level.map((x, i) => c * x + s * upright[i]), up: upright.map((x, i) => c * x - s * level[i]), back };
}

/** @param {InputCamera} camera @param {number[]} focus @param {number} unit @returns {Pose} */
function poseOfCamera(camera, focus, unit) {
  const column = (/** @type {number} */ j) => [0, 1, 2].map((i) => camera.transform_matrix[i][j]);
  const [right, back, position] = [column(0), column(2), column(3)];
  const straight = Math.abs(back[2]) > 0.99999; // from above or below, the yaw is that of the image
  const yaw = straight ? Math.atan2(right[1], right[0]) : Math.atan2(back[0], -back[1]);
  const pitch = Math.asin(Math.min(1, Math.max(-1, back[2])));
  const level = basis({ yaw, pitch, roll: 0 });
  const roll = Math.atan2(dot(right, level.up), dot(right, level.right));
  const depth = dot(position.map((x, i) => x - focus[i]), back);
  const distance = depth > 1e-3 * unit ? depth : unit;
  return { target: position.map((x, i) => x - distance * back[i]), yaw, pitch, roll, distance, lens: 0 };
}
