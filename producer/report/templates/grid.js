// The grid: only the cells near the window are elements, however many images there are.

const GAP = 10;
//: rows of cells above and below the window
const SPARE = 2;
//: cells that are printed
const PRINTED = 60;

const grid = {
  element: byId('grid'),
  shown: [],
  model: 0,
  cells: new Map(),
  focused: 0,
  printing: false,
  open: () => {},

  // Show these images, from the first one.
  show(list, model) {
    this.shown = list;
    this.model = model;
    this.focused = 0;
    this.clear();
    this.draw();
  },

  clear() {
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  },

  // Measure the columns and the size of a cell.
  layout() {
    const width = this.element.clientWidth;
    const columns = Math.max(2, Math.floor((width + GAP) / (width < 500 ? 150 + GAP : 158 + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    const text = tables.truth ? 68 : 50;
    return { columns, side, height: side + text };
  },

  draw() {
    if (this.printing) return;
    const { columns, side, height } = this.layout();
    const step = height + GAP;
    const rows = Math.ceil(this.shown.length / columns);
    this.element.style.height = rows ? `${rows * step - GAP}px` : '0';
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / step) - SPARE) * columns;
    const last = Math.min(this.shown.length, (Math.ceil((innerHeight - top) / step) + SPARE) * columns);
    for (const [at, cell] of this.cells) {
      if (at < first || at >= last) {
        cell.remove();
        this.cells.delete(at);
      }
    }
    let before = null;
    for (let at = first; at < last; at++) {
      let cell = this.cells.get(at);
      if (!cell) {
        cell = this.make(at);
        this.cells.set(at, cell);
        if (before) before.after(cell);
        else this.element.prepend(cell);
      }
      before = cell;
      cell.style.width = `${side}px`;
      cell.style.height = `${height}px`;
      cell.style.transform = `translate(${(at % columns) * (side + GAP)}px, ${Math.floor(at / columns) * step}px)`;
      cell.firstChild.tabIndex = at === this.focused ? 0 : -1;
    }
    const inside = this.cells.get(this.focused);
    if (!inside && before) this.cells.get(Math.min(last - 1, first + SPARE * columns)).firstChild.tabIndex = 0;
  },

  make(at) {
    const cell = cellOf(this.shown[at], this.model);
    cell.setAttribute('aria-posinset', at + 1);
    cell.setAttribute('aria-setsize', this.shown.length);
    cell.firstChild.dataset.at = at;
    return cell;
  },

  // Move the focus to an image, and scroll to it.
  focus(at) {
    if (!this.shown.length) return;
    this.focused = Math.max(0, Math.min(this.shown.length - 1, at));
    const { columns, height } = this.layout();
    const top = this.element.getBoundingClientRect().top + Math.floor(this.focused / columns) * (height + GAP);
    if (top < 0) scrollBy({ top: top - GAP, behavior: 'instant' });
    else if (top + height > innerHeight) scrollBy({ top: top + height + GAP - innerHeight, behavior: 'instant' });
    this.draw();
    this.cells.get(this.focused).firstChild.focus({ preventScroll: true });
  },

  keys(event) {
    const { columns, height } = this.layout();
    const page = Math.max(1, Math.floor(innerHeight / (height + GAP))) * columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page,
      Home: -this.shown.length, End: this.shown.length };
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.focus(Number(event.target.closest('button').dataset.at) + step);
  },

  // Lay out the first images as a plain list for the printer.
  print() {
    if (this.printing) return;
    this.printing = true;
    this.clear();
    const some = this.shown.slice(0, PRINTED);
    for (let at = 0; at < some.length; at++) {
      const cell = this.make(at);
      for (const image of cell.querySelectorAll('img')) image.decoding = 'sync';
      this.element.append(cell);
      this.cells.set(at, cell);
    }
    byId('status').dataset.printed = some.length < this.shown.length ? `, of which the first ${some.length} are printed` : '';
  },

  unprint() {
    this.printing = false;
    this.clear();
    this.draw();
  },

  start() {
    let waiting = false;
    const later = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; this.draw(); });
    };
    addEventListener('scroll', later, { passive: true });
    new ResizeObserver(later).observe(this.element);
    addEventListener('resize', later);
    this.element.addEventListener('keydown', event => this.keys(event));
    this.element.addEventListener('focusin', event => {
      const button = event.target.closest('button');
      if (button) this.focused = Number(button.dataset.at);
    });
    this.element.addEventListener('click', event => {
      const button = event.target.closest('button');
      if (button) this.open(Number(button.dataset.at));
    });
    addEventListener('beforeprint', () => this.print());
    addEventListener('afterprint', () => this.unprint());
    matchMedia('print').addEventListener('change', change => (change.matches ? this.print() : this.unprint()));
  },
};
