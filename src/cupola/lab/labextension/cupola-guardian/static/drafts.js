/*
 * What was typed and not saved yet is kept in this browser, until it is: a session may end under a page, and the next one
 * has another address.
 */
import { debounce, make } from './tools.js';

const KEEP_MS = 1000;
const MOST_DRAFTS = 20;

export class Draft {
  constructor(care) {
    this.care = care;
    this.lab = care.lab;
    this.panel = care.panel;
    this.keep = debounce(KEEP_MS, () => this.write());
    const { context } = this.panel;
    void context.ready.then(() => this.begin());
    this.lock = null;
  }

  get prefix() {
    return this.lab.name + ':draft:' + this.lab.option('hubUser') + ':';
  }

  get key() {
    return this.prefix + this.panel.context.localPath;
  }

  async begin() {
    const { context } = this.panel;
    const first = await this.isFirst();
    if (this.panel.isDisposed) {
      return;
    }
    if (first) {
      this.offer();
    }
    context.model.contentChanged.connect(() => this.keep());
    context.saveState.connect((_, state) => state === 'completed' && this.forget());
    context.model.stateChanged.connect((_, change) => change.name === 'dirty' && !change.newValue && this.forget());
    const flush = () => this.keep.now();
    window.addEventListener('pagehide', flush);
    this.panel.disposed.connect(() => {
      window.removeEventListener('pagehide', flush);
      if (this.release) {
        this.release();
      }
    });
  }

  /** Whether no other page of this browser has the notebook open: what is kept would be that one's. */
  isFirst() {
    if (!navigator.locks) {
      return Promise.resolve(true);
    }
    return new Promise(resolve => {
      const held = new Promise(release => (this.release = release));
      const take = lock => {
        resolve(lock !== null);
        return lock && held;
      };
      void navigator.locks.request(this.key, { ifAvailable: true }, take).catch(() => resolve(true));
    });
  }

  cells() {
    return [...this.panel.context.model.cells].map(({ id, type, sharedModel }) => ({ id, type, source: sharedModel.getSource() }));
  }

  write() {
    const { context } = this.panel;
    if (this.panel.isDisposed || !context.model.dirty || !this.care.follower.edited || this.offered) {
      return;
    }
    const text = JSON.stringify({ time: Date.now(), cells: this.cells() });
    try {
      localStorage.setItem(this.key, text);
    } catch {
      this.makeRoom();
      try {
        localStorage.setItem(this.key, text);
      } catch (error) {
        this.lab.warn(error);
      }
    }
  }

  makeRoom() {
    const keys = Object.keys(localStorage).filter(key => key.startsWith(this.prefix) && key !== this.key);
    const age = key => {
      try {
        return JSON.parse(localStorage.getItem(key)).time || 0;
      } catch {
        return 0;
      }
    };
    keys.sort((one, other) => age(other) - age(one));
    keys.slice(Math.min(MOST_DRAFTS, Math.floor(keys.length / 2))).forEach(key => localStorage.removeItem(key));
  }

  forget() {
    if (!this.offered) {
      localStorage.removeItem(this.key);
    }
  }

  read() {
    try {
      const draft = JSON.parse(localStorage.getItem(this.key));
      return draft && Array.isArray(draft.cells) ? draft : null;
    } catch {
      return null;
    }
  }

  /** The cells of the draft that the notebook does not have like that. */
  changed(draft) {
    const now = new Map(this.cells().map(cell => [cell.id, cell.source]));
    return draft.cells.filter(cell => (now.has(cell.id) ? now.get(cell.id) !== cell.source : cell.source.trim()));
  }

  offer() {
    const draft = this.read();
    const changed = draft ? this.changed(draft) : [];
    if (!changed.length) {
      localStorage.removeItem(this.key);
      return;
    }
    // Kept under its name until somebody has decided.
    this.offered = true;
    const { Notification } = this.lab.modules.apputils;
    const name = this.panel.title.label;
    const cells = changed.length === 1 ? 'one cell' : changed.length + ' cells';
    const when = new Date(draft.time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    const id = Notification.warning(`${name}: your page had changes that were never saved (${cells}, ${when}).`, {
      autoClose: false,
      actions: [
        { label: 'Show', displayType: 'accent', callback: () => void this.show(draft, changed) },
        { label: 'Discard', callback: () => this.decided() }
      ]
    });
    this.panel.disposed.connect(() => Notification.dismiss(id));
  }

  async show(draft, changed) {
    const { apputils, widgets } = this.lab.modules;
    const node = make('div', { className: 'cupola-draft' });
    for (const cell of changed) {
      node.append(make('pre', { textContent: cell.source, tabIndex: 0 }));
    }
    const { Dialog } = apputils;
    const result = await apputils.showDialog({
      title: 'Changes that were never saved',
      body: new widgets.Widget({ node }),
      buttons: [
        Dialog.cancelButton({ label: 'Later' }),
        Dialog.warnButton({ label: 'Discard', actions: ['discard'] }),
        Dialog.okButton({ label: 'Put them into the notebook' })
      ]
    });
    if (result.button.accept && result.button.actions.includes('discard')) {
      this.decided();
    } else if (result.button.accept) {
      this.put(draft);
      this.decided();
    } else {
      this.offered = false;
      this.offer();
    }
  }

  put(draft) {
    const { model } = this.panel.context;
    const there = new Map([...model.cells].map(cell => [cell.id, cell]));
    draft.cells.forEach((cell, at) => {
      const known = there.get(cell.id);
      if (known && known.sharedModel.getSource() !== cell.source) {
        known.sharedModel.setSource(cell.source);
      } else if (!known && cell.source.trim()) {
        const place = Math.min(at, model.sharedModel.cells.length);
        model.sharedModel.insertCell(place, { id: cell.id, cell_type: cell.type, source: cell.source, metadata: {} });
      }
    });
  }

  decided() {
    this.offered = false;
    localStorage.removeItem(this.key);
    this.keep();
  }
}
