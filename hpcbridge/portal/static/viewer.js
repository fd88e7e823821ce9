// A live, remote rendering on a canvas: any wslink application that pushes images (VTK's and ParaView's
// viewport.image.push protocol), over wslink's own JavaScript client.
import { PointerInput } from './pointer.js';

const VIEW = -1; // wslink's name for the active view
const STILL_QUALITY = 92;
const MOVING_QUALITY = 70;
const FRAME_BUDGET = 45; // ms a frame may take the node while it moves; smaller pictures beyond
const LEAST_RATIO = 0.5; // of the width; less is no longer legible
const MOST_PIXELS = 2.4e6; // a bigger stage is scaled up here: software rendering pays by the pixel
const RATE_WINDOW = 1000; // ms
const GREETING = 10_000; // ms that an application may take to answer when we connect

/**
 * Events: `image` (after each picture drawn; detail {first, rate, width, height}), with the rate in
 * pictures of the last second, and `close` (the connection is lost, not closed by us).
 */
export class RemoteView extends EventTarget {
  constructor(canvas, client) {
    super();
    this.canvas = canvas;
    this.client = client;
    this.context = canvas.getContext('2d', { alpha: false });
    this.input = new PointerInput(canvas, this);
    this.sizes = new ResizeObserver(() => this.resize());
    this.clear();
  }

  clear() {
    this.link = null;
    this.session = null;
    this.viewId = null;
    this.moving = false;
    this.size = [0, 0];
    this.drawn = 0;
    this.arrivals = [];
    this.cost = 0; // ms of rendering for a million pixels, while moving
    this.newest = null;
    this.decoding = false;
    this.pendingMove = null;
    this.moveInFlight = false;
  }

  /** Load wslink's client; worth doing while the session still starts. */
  prepare() {
    this.loaded ??= import(new URL(this.client, document.baseURI).href).catch((error) => {
      this.loaded = null;
      throw new Error(`The page's client for sessions cannot be loaded: ${error.message}`);
    });
    return this.loaded;
  }

  /** Connect and ask for pictures. Rejects with an Error for people; `lasting` if it is no use to try again. */
  async connect(url, secret) {
    this.close();
    const { default: SmartConnect } = await this.prepare();
    const link = SmartConnect.newInstance({ config: { sessionURL: url, secret } });
    this.link = link;
    const session = await new Promise((resolve, reject) => {
      setTimeout(() => reject(Object.assign(new Error(SILENT), { silent: true })), GREETING);
      link.onConnectionReady((connection) => resolve(connection.getSession()));
      link.onConnectionError((_, error) => reject(refusal(error)));
      link.onConnectionClose(() => {
        reject(new Error('The connection was closed.'));
        if (this.link === link) this.lost();
      });
      link.connect();
    });
    this.session = session;
    session.subscribe('viewport.image.push.subscription', ([message]) => this.receive(message));
    // Not awaited one by one: the application answers in order, and the first picture is one trip away.
    const observer = session.call('viewport.image.push.observer.add', [VIEW]);
    this.quality(STILL_QUALITY, 1);
    this.resize();
    this.sizes.observe(this.canvas.parentElement);
    const answer = await observer.catch((error) => ({ error: error.message }));
    if (answer?.error) {
      throw lasting(`The application does not push pictures: ${answer.error}. It may have a page of its own.`);
    }
    this.viewId = answer?.viewId ?? null;
  }

  close() {
    const { session } = this;
    this.sizes.disconnect();
    this.clear();
    // Not link.destroy(): that may tell the application to exit.
    session?.close();
  }

  lost() {
    this.sizes.disconnect();
    this.clear();
    this.dispatchEvent(new Event('close'));
  }

  // ---- calls ---------------------------------------------------------------------------------

  call(method, ...args) {
    if (!this.session) return Promise.resolve(null);
    return this.session.call(method, args).catch((error) => {
      console.warn(method, error);
      return null;
    });
  }

  push() {
    return this.call('viewport.image.push', { view: VIEW, size: this.size });
  }

  quality(quality, ratio) {
    return this.call('viewport.image.push.quality', VIEW, quality, ratio);
  }

  async reset() {
    await this.call('viewport.camera.reset', VIEW);
    await this.push();
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const scale = Math.min(
      globalThis.devicePixelRatio || 1, 2, Math.sqrt(MOST_PIXELS / (box.width * box.height)),
    );
    const size = [Math.round(box.width * scale), Math.round(box.height * scale)];
    if (size[0] < 11 || size[1] < 11) return; // the protocol ignores smaller ones
    if (size[0] === this.size[0] && size[1] === this.size[1]) return;
    this.size = size;
    this.call('viewport.image.push.original.size', VIEW, ...size);
    this.push();
  }

  // ---- what the user does (PointerInput calls these) -----------------------------------------

  mouse(event) {
    const message = { view: VIEW, ...event };
    if (event.action === 'move') {
      // One at a time, the newest next: a slow line must not build up a queue of old positions.
      this.pendingMove = message;
      this.sendMove();
      return;
    }
    this.flushMove();
    if (event.action === 'down') this.startMoving();
    this.call('viewport.mouse.interaction', message);
    if (event.action === 'up') this.endMoving();
  }

  async sendMove() {
    if (this.moveInFlight || !this.pendingMove) return;
    const message = this.pendingMove;
    this.pendingMove = null;
    this.moveInFlight = true;
    await this.call('viewport.mouse.interaction', message);
    this.moveInFlight = false;
    this.sendMove();
  }

  flushMove() {
    if (this.pendingMove) this.call('viewport.mouse.interaction', this.pendingMove);
    this.pendingMove = null;
  }

  wheel(event) {
    if (event.type === 'StartMouseWheel') this.startMoving();
    this.call('viewport.mouse.zoom.wheel', { view: VIEW, ...event });
    if (event.type === 'EndMouseWheel') this.endMoving();
  }

  startMoving() {
    this.moving = true;
    const expected = (this.cost * this.size[0] * this.size[1]) / 1e6;
    const ratio = expected > FRAME_BUDGET ? Math.sqrt(FRAME_BUDGET / expected) : 1;
    this.quality(MOVING_QUALITY, Math.max(LEAST_RATIO, ratio));
  }

  endMoving() {
    this.moving = false;
    this.quality(STILL_QUALITY, 1);
    this.push();
  }

  // ---- pictures ------------------------------------------------------------------------------

  receive(message) {
    if (!message?.image) return;
    if (this.viewId !== null && String(message.id) !== String(this.viewId)) return;
    this.newest = message;
    this.decode();
  }

  async decode() {
    if (this.decoding || !this.newest) return;
    const message = this.newest;
    this.newest = null;
    this.decoding = true;
    try {
      const blob = new Blob([message.image], { type: 'image/jpeg' });
      const bitmap = await createImageBitmap(blob);
      if (this.session) this.draw(bitmap, message);
      bitmap.close();
    } finally {
      this.decoding = false;
    }
    this.decode();
  }

  draw(bitmap, { workTime }) {
    const { canvas } = this;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    this.context.drawImage(bitmap, 0, 0);
    this.drawn += 1;
    if (this.moving) {
      const cost = workTime / ((bitmap.width * bitmap.height) / 1e6);
      this.cost = this.cost ? 0.8 * this.cost + 0.2 * cost : cost;
    }
    const now = performance.now();
    this.arrivals = [...this.arrivals.filter((time) => now - time < RATE_WINDOW), now];
    const detail = {
      first: this.drawn === 1,
      rate: this.arrivals.length,
      width: bitmap.width,
      height: bitmap.height,
    };
    canvas.dataset.images = String(this.drawn);
    this.dispatchEvent(new CustomEvent('image', { detail }));
  }
}

const SILENT = 'The application does not answer. One of wslink 1, as ParaView 5 has, cannot be shown here: '
  + 'give it wslink 2 (its pythonpath), or open it by its own page (viewer in its configuration).';

function lasting(text) {
  return Object.assign(new Error(text), { lasting: true });
}

function refusal(error) {
  if (error?.message) return lasting(`The application refused the connection: ${error.message}.`);
  return new Error('The application could not be reached.');
}
