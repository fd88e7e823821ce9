// Mouse, touch and keys on the canvas, as calls of wslink's viewport.mouse.* protocol.

const WHEEL_IDLE = 180; // ms without a wheel event after which zooming has ended
const KEY_STEP = 0.05; // of the picture's width, about 10 degrees
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const WHEEL_KEYS = { '+': -1, '=': -1, '-': 1 };

/** Calls `view.mouse(event)`, `view.wheel(event)`, `view.reset()` for what the user does on `canvas`. */
export class PointerInput {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.fingers = new Map();
    this.dragging = null;
    this.pinch = 0;
    this.wheelTimer = 0;
    const on = (type, handler, options) => canvas.addEventListener(type, handler.bind(this), options);
    on('pointerdown', this.down);
    on('pointermove', this.move);
    on('pointerup', this.up);
    on('pointercancel', this.up);
    on('wheel', this.wheel, { passive: false });
    on('keydown', this.key);
    on('contextmenu', (event) => event.preventDefault());
  }

  /** Where the event is, as wslink wants it: 0 to 1, from the lower left corner. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (value) => Math.min(1, Math.max(0, value));
    return {
      x: share((event.clientX - box.left) / box.width),
      y: share(1 - (event.clientY - box.top) / box.height),
    };
  }

  send(action, event, place) {
    this.view.mouse({
      action,
      ...place,
      buttonLeft: action !== 'up' && this.dragging.button === 0,
      buttonMiddle: action !== 'up' && this.dragging.button === 1,
      buttonRight: action !== 'up' && this.dragging.button === 2,
      shiftKey: event.shiftKey,
      ctrlKey: event.ctrlKey,
      altKey: event.altKey,
      metaKey: event.metaKey,
    });
  }

  down(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.fingers.set(event.pointerId, event);
    this.canvas.setPointerCapture(event.pointerId);
    if (this.fingers.size === 2) {
      // A second finger turns the drag into a pinch.
      this.release(event);
      this.pinch = this.spread();
    } else if (this.fingers.size === 1) {
      this.dragging = { pointer: event.pointerId, button: event.button };
      this.send('down', event, this.place(event));
    }
  }

  move(event) {
    if (!this.fingers.has(event.pointerId)) return;
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 2 && this.pinch) {
      const spread = this.spread();
      this.spin(10 * (1 - spread / this.pinch));
      this.pinch = spread;
    } else if (this.dragging?.pointer === event.pointerId) {
      this.send('move', event, this.place(event));
    }
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    this.pinch = 0;
    if (this.dragging?.pointer === event.pointerId) this.release(event);
  }

  release(event) {
    if (!this.dragging) return;
    this.send('up', event, this.place(event));
    this.dragging = null;
  }

  spread() {
    const [a, b] = [...this.fingers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    this.spin(pixels / 100);
  }

  /** Zoom by a factor of 1 - spin / 10, which is wslink's way of saying it. */
  spin(spin) {
    const spinY = Math.min(3, Math.max(-3, spin));
    this.view.wheel({ type: this.wheelTimer ? 'MouseWheel' : 'StartMouseWheel', spinY });
    clearTimeout(this.wheelTimer);
    this.wheelTimer = setTimeout(() => {
      this.wheelTimer = 0;
      this.view.wheel({ type: 'EndMouseWheel', spinY: 0 });
    }, WHEEL_IDLE);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) this.nudge(event, ...ARROWS[event.key]);
    else if (event.key in WHEEL_KEYS) this.spin(WHEEL_KEYS[event.key]);
    else if (event.key === 'r' || event.key === 'R') this.view.reset();
    else return;
    event.preventDefault();
  }

  /** A short drag from the middle. */
  nudge(event, right, up) {
    if (this.dragging) return;
    this.dragging = { button: 0 };
    this.send('down', event, { x: 0.5, y: 0.5 });
    const end = { x: 0.5 + right * KEY_STEP, y: 0.5 + up * KEY_STEP };
    this.send('move', event, end);
    this.send('up', event, end);
    this.dragging = null;
  }
}
