/*
 * What was typed and not saved yet is kept in this browser, until it is: a session may end under a page, and the next one
 * has another address. When the notebook is opened again it is offered, and never put over what is newer in the file.
 */
import { make, throttle } from './tools.js';

const KEEP_MS = 1000;
const OLD_MS = 30 * 24 * 3600 * 1000;
const HEADS = {
  changed: at => `Cell ${at + 1}`,
  newer: at => `Cell ${at + 1} was changed since then: this is put into a new cell below it`,
  new: () => 'A new cell',
  gone: () => 'Its cell was deleted since then: this is put in as a new cell'
};

/** The browser's store, which may be full or forbidden (private windows, blocked cookies). */
const store = {
  get: key => {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
  remove: key => {
    try {
      localStorage.removeItem(key);
    } catch {
      // It was never there.
    }
  },
  keys: prefix => {
    try {
      return Object.keys(localStorage).filter(key => key.startsWith(prefix));
    } catch {
      return [];
    }
  }
};

/** One name for all views of a notebook in this page; a lock of that name says that the page is still there. */
const marks = new WeakMap();
/** The drafts that this page has offered. */
const offered = new Set();

function markOf(context) {
  if (!marks.has(context)) {
    marks.set(context, Math.random().toString(36).slice(2));
  }
  return marks.get(context);
}

function isDraft(found) {
  const fits = one => one && typeof one.source === 'string' && typeof one.id === 'string' && typeof one.type === 'string';
  return Boolean(found) && Array.isArray(found.cells) && found.cells.every(fits);
}

export class Draft {
  constructor(care) {
    this.care = care;
    this.lab = care.lab;
    this.panel = care.panel;
    this.context = care.panel.context;
    this.mark = markOf(this.context);
    this.path = this.context.localPath;
    this.keep = throttle(KEEP_MS, () => this.write());
    void this.context.ready.then(() => this.begin());
  }

  get prefix() {
    return this.lab.name + ':draft:' + this.lab.option('hubUser') + ':';
  }

  get key() {
    return this.prefix + this.path + '\n' + this.mark;
  }

  async begin() {
    const { context, panel } = this;
    const flush = () => this.keep.now();
    context.model.contentChanged.connect(() => this.keep());
    // What was typed while it was saved is not in the file.
    context.saveState.connect((_, state) => state === 'completed' && (this.care.follower.edited ? this.keep() : this.forget()));
    context.pathChanged.connect(() => this.move());
    window.addEventListener('pagehide', flush);
    panel.disposed.connect(() => {
      window.removeEventListener('pagehide', flush);
      this.keep.stop();
      if (context.isDisposed) {
        // Closed, and whoever had changes was asked about them.
        this.forget();
        this.release && this.release();
      }
    });
    // Known before it is needed: the page says what becomes of typed text.
    this.lab.state.keeps = store.set(this.prefix, 0);
    store.remove(this.prefix);
    this.hold();
    for (const key of await this.left()) {
      if (!panel.isDisposed) {
        this.offer(key);
      }
    }
  }

  /** Say to other pages that this one is there: what it keeps is not theirs to offer. */
  hold() {
    if (navigator.locks) {
      const released = new Promise(release => (this.release = release));
      navigator.locks.request(this.lab.name + ':' + this.mark, { ifAvailable: true }, () => released).catch(error => this.lab.warn(error));
    }
  }

  /** The drafts of this notebook whose pages are gone. */
  async left() {
    const state = navigator.locks ? await navigator.locks.query().catch(() => null) : null;
    const held = new Set(((state && state.held) || []).map(lock => lock.name));
    const begin = this.prefix + this.path + '\n';
    return store.keys(begin).filter(key => key !== this.key && !offered.has(key) && !held.has(this.lab.name + ':' + key.slice(begin.length)));
  }

  // -- keeping ---------------------------------------------------------------------------------------------------

  cells() {
    return [...this.context.model.cells].map(({ id, type, sharedModel }) => ({ id, type, source: sharedModel.getSource() }));
  }

  /** The cells that are not in the file as they are here. */
  typed() {
    const saved = new Map(JSON.parse(this.care.follower.base || '[]').map(([id, , source]) => [id, source]));
    let after = '';
    const found = [];
    for (const [at, cell] of this.cells().entries()) {
      const base = saved.has(cell.id) ? saved.get(cell.id) : null;
      if (base === null ? cell.source.trim() : base !== cell.source) {
        found.push({ ...cell, at, after, base });
      }
      after = cell.id;
    }
    return found;
  }

  write() {
    if (this.panel.isDisposed || !this.care.follower.edited) {
      return;
    }
    const cells = this.typed();
    if (!cells.length) {
      this.forget();
      return;
    }
    const draft = { time: Date.now(), cells };
    const kept = store.set(this.key, draft) || (this.makeRoom(), store.set(this.key, draft));
    this.lab.state.keeps = kept;
    if (!kept) {
      this.lab.warn(new Error('This browser keeps nothing: what is typed is lost with the page unless it is saved.'));
    }
  }

  /** Remove what nobody has asked for in a month; of the rest nobody may be robbed. */
  makeRoom() {
    for (const key of store.keys(this.prefix)) {
      const draft = store.get(key);
      if (!draft || !(Date.now() - draft.time < OLD_MS)) {
        store.remove(key);
      }
    }
  }

  forget() {
    store.remove(this.key);
  }

  move() {
    this.forget();
    this.path = this.context.localPath;
    this.keep();
  }

  // -- offering --------------------------------------------------------------------------------------------------

  /** What of a draft the notebook does not have, and how it stands to what it has. */
  missing(draft) {
    const now = new Map(this.cells().map((cell, at) => [cell.id, { ...cell, at }]));
    const found = [];
    for (const cell of draft.cells) {
      const there = now.get(cell.id);
      if (!there) {
        found.push({ ...cell, kind: cell.base === null ? 'new' : 'gone' });
      } else if (there.source !== cell.source) {
        found.push({ ...cell, at: there.at, now: there.source, kind: there.source === cell.base ? 'changed' : 'newer' });
      }
    }
    return found;
  }

  offer(key) {
    const draft = store.get(key);
    const missing = isDraft(draft) ? this.missing(draft) : [];
    if (!missing.length) {
      store.remove(key);
      return;
    }
    offered.add(key);
    const { Notification } = this.lab.modules.apputils;
    const cells = missing.length === 1 ? 'one cell' : missing.length + ' cells';
    const when = new Date(draft.time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    const id = Notification.warning(`${this.panel.title.label}: a page had changes that were never saved (${cells}, ${when}).`, {
      autoClose: false,
      actions: [
        { label: 'Show', displayType: 'accent', callback: () => void this.show(key) },
        { label: 'Discard', callback: () => store.remove(key) }
      ]
    });
    // Another page may decide.
    const decided = event => event.key === key && !event.newValue && Notification.dismiss(id);
    window.addEventListener('storage', decided);
    this.panel.disposed.connect(() => {
      window.removeEventListener('storage', decided);
      Notification.dismiss(id);
      offered.delete(key);
    });
  }

  async show(key) {
    const { apputils, widgets } = this.lab.modules;
    const draft = store.get(key);
    const missing = isDraft(draft) ? this.missing(draft) : [];
    const node = make('div', { className: 'cupola-draft' });
    for (const cell of missing) {
      node.append(make('h3', { textContent: HEADS[cell.kind](cell.at) }), make('pre', { textContent: cell.source, tabIndex: 0 }));
      if (cell.kind === 'newer') {
        node.append(make('h3', { textContent: 'As it is now' }), make('pre', { textContent: cell.now, tabIndex: 0 }));
      }
    }
    if (!missing.length) {
      node.append(make('p', { textContent: 'The notebook has all of them by now.' }));
    }
    const { Dialog } = apputils;
    const put = Dialog.okButton({ label: 'Put them into the notebook', actions: ['put'] });
    const writable = missing.length && this.context.contentsModel && this.context.contentsModel.writable;
    const result = await apputils.showDialog({
      title: 'Changes that were never saved',
      body: new widgets.Widget({ node }),
      buttons: [
        Dialog.cancelButton({ label: 'Later' }),
        Dialog.warnButton({ label: 'Discard', actions: ['discard'] }),
        ...(writable ? [put] : [])
      ]
    });
    if (!result.button.accept) {
      this.offer(key);
      return;
    }
    if (result.button.actions.includes('put')) {
      // As the notebook is now: it may have changed while the dialog was open.
      this.put(this.missing(draft));
      this.write();
    }
    store.remove(key);
  }

  put(missing) {
    const { model } = this.context;
    const places = () => new Map([...model.cells].map((cell, at) => [cell.id, { cell, at }]));
    for (const one of missing) {
      const there = places();
      if (one.kind === 'changed') {
        there.get(one.id).cell.sharedModel.setSource(one.source);
        continue;
      }
      const cell = { cell_type: one.type, source: one.source, metadata: {} };
      const before = there.get(one.kind === 'newer' ? one.id : one.after);
      const place = before ? before.at + 1 : Math.min(one.at, model.sharedModel.cells.length);
      model.sharedModel.insertCell(place, one.kind === 'newer' ? cell : { ...cell, id: one.id });
    }
  }
}
