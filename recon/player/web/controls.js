"use strict";
// The controls around the player: buttons, keys, mouse and touch; and where the scene comes from.

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const IDLE_MILLISECONDS = 3000;
const POLL_MILLISECONDS = 1000;
const ORBIT_STEP = Math.PI / 24;
/** @type {Record<string, string>} */
const KEYS = {
  " ": "play", k: "play", l: "repeat", b: "nextBackground", i: "home", f: "full", "?": "help", Escape: "close",
  ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last",
  "+": "closer", "=": "closer", "-": "farther", "<": "slower", ">": "faster",
  "Shift ArrowLeft": "left", "Shift ArrowRight": "right", "Shift ArrowUp": "up", "Shift ArrowDown": "down",
};

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

/** Show a sentence instead of the scene. @param {unknown} error */
function fail(error) {
  document.body.classList.remove("loading");
  document.body.classList.add("failed");
  const box = element("failure", HTMLElement);
  box.hidden = false;
  const text = error instanceof Error ? error.message : String(error);
  /** @type {HTMLElement} */ (box.firstElementChild).textContent = text;
}

class Controls {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.slider = element("time", HTMLInputElement);
    this.clock = element("clock", HTMLElement);
    this.background = "auto";
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    this.idleTimer = 0;
    this.backgrounds = [...document.querySelectorAll("#colors button")].filter((button) => button instanceof HTMLButtonElement);
    const orbit = (/** @type {number} */ yaw, /** @type {number} */ pitch) => player.camera?.orbit(yaw * ORBIT_STEP, pitch * ORBIT_STEP);
    /** @type {Record<string, () => void>} by the ids of buttons, or as `KEYS` names them */
    this.actions = {
      play: () => player.setPlaying(!player.playing),
      speed: () => this.changeSpeed(1, true),
      repeat: () => player.setPingPong(!player.pingPong),
      background: () => this.toggleColors(),
      home: () => this.home(),
      full: () => this.fullScreen(),
      help: () => element("keys", HTMLDialogElement).showModal(),
      previous: () => this.stepFrame(-1),
      next: () => this.stepFrame(1),
      first: () => player.seek(0),
      last: () => player.seek(player.frames - 1),
      closer: () => player.camera?.zoom(1 / 1.15),
      farther: () => player.camera?.zoom(1.15),
      slower: () => this.changeSpeed(-1),
      faster: () => this.changeSpeed(1),
      nextBackground: () => this.nextBackground(),
      close: () => this.toggleColors(false),
      left: () => orbit(-1, 0),
      right: () => orbit(1, 0),
      up: () => orbit(0, 1),
      down: () => orbit(0, -1),
    };
    player.onChange = () => this.update();
    this.connectButtons();
    this.connectPointers();
    document.addEventListener("keydown", (event) => this.key(event));
    for (const type of ["pointermove", "pointerdown", "keydown"]) document.addEventListener(type, () => this.wake(), { passive: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.setBackground(this.background));
  }

  connectButtons() {
    const { player } = this;
    for (const button of document.querySelectorAll("#controls button")) button.addEventListener("click", this.actions[button.id]);
    element("full", HTMLElement).hidden = !document.fullscreenEnabled;
    this.slider.addEventListener("input", () => {
      const share = Number(this.slider.value); // before the pause shows the old time
      player.setPlaying(false);
      player.seek(share * (player.frames - 1));
    });
    for (const button of this.backgrounds) {
      const { background = "" } = button.dataset;
      button.style.background = background === "auto" ? "" : background;
      button.addEventListener("click", () => this.setBackground(background));
    }
    const own = element("own", HTMLInputElement);
    own.addEventListener("input", () => this.setBackground(own.value));
  }

  connectPointers() {
    const { canvas } = this.player;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      this.toggleColors(false);
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const type of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this.pointers.delete(/** @type {PointerEvent} */ (event).pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.home(true));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      this.player.camera?.zoom(Math.exp(Math.min(60, Math.max(-60, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0025)));
      this.player.invalidate();
    }, { passive: false });
  }

  /** Orbit with one pointer; move and zoom with two. @param {PointerEvent} event */
  drag(event) {
    const before = this.pointers.get(event.pointerId);
    const { camera, canvas } = this.player;
    if (!before || !camera) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const [focal] = camera.lens(canvas.clientWidth, canvas.clientHeight, 0).focal;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const span = (/** @type {PointerEvent} */ p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
      camera.zoom(span(before) / span(event));
      camera.pan(dx / 2, dy / 2, focal);
    } else if (event.buttons & 6 || event.shiftKey || event.ctrlKey) camera.pan(dx, dy, focal);
    else {
      const turn = Math.PI / Math.min(canvas.clientWidth, canvas.clientHeight);
      camera.orbit(-dx * turn, dy * turn);
    }
    this.pointers.set(event.pointerId, event);
    this.player.invalidate();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { player } = this;
    if (event.altKey || event.ctrlKey || event.metaKey || element("keys", HTMLDialogElement).open) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target instanceof HTMLButtonElement; // which answers the space bar itself
    const action = this.actions[(event.shiftKey && KEYS[`Shift ${name}`]) || KEYS[name]];
    if (!action || (onButton && name === " ")) return;
    event.preventDefault();
    action();
    player.invalidate();
  }

  /** @param {number} step */
  stepFrame(step) {
    const { player } = this;
    player.setPlaying(false);
    const next = step > 0 ? Math.floor(player.position + 1e-6) + 1 : Math.ceil(player.position - 1e-6) - 1;
    player.seek((next + player.frames) % player.frames);
  }

  /** @param {number} step @param {boolean} [around] whether the slowest follows the fastest */
  changeSpeed(step, around) {
    const next = SPEEDS.indexOf(this.player.speed) + step;
    this.player.speed = SPEEDS[around ? next % SPEEDS.length : Math.min(SPEEDS.length - 1, Math.max(0, next))];
    this.update();
  }

  /** @param {boolean} [close] whether to go to the input view, not to the whole video */
  home(close) {
    this.player.camera?.reset(close);
    this.player.invalidate();
  }

  async fullScreen() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen?.().catch(() => {}); // refused, e.g. in a frame
  }

  nextBackground() {
    const names = this.backgrounds.map((button) => button.dataset.background ?? "");
    this.setBackground(names[(names.indexOf(this.background) + 1) % names.length]);
  }

  /** @param {boolean} [open] */
  toggleColors(open) {
    const panel = element("colors", HTMLElement);
    panel.hidden = !(open ?? panel.hidden);
    element("background", HTMLElement).setAttribute("aria-expanded", String(!panel.hidden));
  }

  /** Set the background: a color #rrggbb, or "auto" for that of the page. @param {string} background */
  setBackground(background) {
    this.background = background;
    const page = getComputedStyle(document.documentElement).getPropertyValue("--background").trim();
    const color = background === "auto" ? page : background;
    this.player.background = [1, 3, 5].map((i) => Number.parseInt(color.slice(i, i + 2), 16) / 255);
    element("swatch", HTMLElement).style.background = color;
    for (const button of this.backgrounds) button.setAttribute("aria-pressed", String(button.dataset.background === background));
    this.player.invalidate();
  }

  /** Show the state of the player. */
  update() {
    const { player, slider } = this;
    const share = player.frames > 1 ? Math.min(1, player.position / (player.frames - 1)) : 0;
    slider.value = String(share);
    slider.style.setProperty("--done", `${100 * share}%`);
    const seconds = (Math.min(player.position, player.frames - 1) / (player.scene?.header.fps ?? 1)).toFixed(1);
    slider.setAttribute("aria-valuetext", `${seconds} seconds`);
    if (this.clock.textContent !== `${seconds} s`) this.clock.textContent = `${seconds} s`;
    element("speed", HTMLElement).textContent = `${player.speed}×`;
    element("repeat", HTMLElement).setAttribute("aria-label", player.pingPong ? "Back and forth" : "Loop");
    element("play", HTMLElement).setAttribute("aria-label", player.playing ? "Pause" : "Play");
    document.body.classList.toggle("playing", player.playing);
    document.body.classList.toggle("pingpong", player.pingPong);
    slider.disabled = player.frames < 2;
  }

  /** Show the controls; hide them again after a while of playback without input. */
  wake() {
    document.body.classList.remove("idle");
    clearTimeout(this.idleTimer);
    this.idleTimer = window.setTimeout(() => {
      const busy = !element("colors", HTMLElement).hidden || element("keys", HTMLDialogElement).open;
      if (this.player.playing && !busy) document.body.classList.add("idle");
    }, IDLE_MILLISECONDS);
  }

  /** @param {Scene} scene */
  describe(scene) {
    const { kind, times, fps } = scene.header;
    const counts = scene.sets.map((set) => set.count);
    const parts = [`${Math.max(...counts).toLocaleString("en")} Gaussians`, `${times.length} frames at ${Number(fps.toFixed(2))} per second`];
    if (kind === "bones") parts.push(`${scene.sets[0].arrays.centers.length / 3} bones`);
    element("facts", HTMLElement).textContent = parts.join(" · ");
  }
}

/** Read the scene of the page, or get it from the server that sent the page.
 * @param {(share: number) => void} onProgress @returns {Promise<Scene>} */
async function readScene(onProgress) {
  const embedded = element("scene", HTMLElement);
  const text = embedded.textContent ?? "";
  if (text.trim() !== "") {
    const bytes = await bytesFromBase64(text, onProgress);
    embedded.textContent = "";
    return unpackScene(await inflate(bytes));
  }
  const answer = await fetch("scene.bin", { cache: "no-store" });
  if (!answer.ok || answer.body === null) throw new Error(await answer.text());
  const total = Number(answer.headers.get("Content-Length")) || 1;
  const parts = [];
  let done = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { value, done: end } = await reader.read();
    if (end) break;
    parts.push(value);
    done += value.length;
    onProgress(Math.min(1, done / total));
  }
  return unpackScene(await inflate(new Uint8Array(await new Blob(parts).arrayBuffer())));
}

/** Follow the server while a fit runs: show its state, and each new scene.
 * @param {Player} player @param {Controls} controls */
async function followServer(player, controls) {
  const status = element("status", HTMLElement);
  for (let revision = ""; ; ) {
    try {
      const state = /** @type {{revision: string, text: string, live: boolean}} */ (await (await fetch("state.json", { cache: "no-store" })).json());
      status.textContent = state.text;
      status.hidden = state.text === "";
      if (state.revision !== "" && state.revision !== revision) {
        const scene = await readScene(showProgress);
        revision = state.revision;
        show(player, controls, scene);
      }
      if (!state.live) return;
    } catch (error) {
      if (player.scene === null) fail(error);
      status.textContent = "the server was stopped";
      status.hidden = player.scene === null;
      if (player.scene === null) return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

/** @param {number} share */
function showProgress(share) {
  element("bar", HTMLElement).style.width = `${Math.round(100 * share)}%`;
  element("loading", HTMLElement).setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

/** @param {Player} player @param {Controls} controls @param {Scene} scene */
async function show(player, controls, scene) {
  const first = player.scene === null;
  player.setScene(scene);
  controls.describe(scene);
  if (!first) return;
  controls.setBackground("auto");
  await player.settled();
  document.body.classList.remove("loading");
  if (!player.stillness) player.setPlaying(true);
  controls.wake();
}

async function main() {
  try {
    const player = new Player(element("stage", HTMLCanvasElement), element("worker", HTMLElement).textContent ?? "", fail);
    const controls = new Controls(player);
    Object.assign(window, { player, controls }); // for scripts and tests
    if (location.protocol === "file:" || element("scene", HTMLElement).textContent?.trim()) {
      await show(player, controls, await readScene(showProgress));
    } else await followServer(player, controls);
  } catch (error) {
    fail(error);
  }
}

main();
