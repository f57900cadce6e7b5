/*
 * A page without changes of its own follows its file: another page, the server or a program may have written it. Where cells
 * are the same, only what differs is changed, so that the page does not jump.
 */
const LOOK_MS = 10000;
const VIEWER_MS = 4000;
const SOON_MS = 300;

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function text(source) {
  return Array.isArray(source) ? source.join('') : source || '';
}

/** Outputs as the model of a page has them: texts in one piece. */
function whole(outputs) {
  return outputs.map(output => {
    const copy = { ...output };
    if ('text' in copy) {
      copy.text = text(copy.text);
    }
    if (copy.data) {
      copy.data = Object.fromEntries(
        Object.entries(copy.data).map(([kind, value]) => [
          kind,
          Array.isArray(value) && value.every(one => typeof one === 'string') ? value.join('') : value
        ])
      );
    }
    return copy;
  });
}

/** What people have typed in a notebook; outputs are the kernel's, and in its journal. */
function typed(cells) {
  return JSON.stringify(cells.map(cell => [cell.id, cell.cell_type, text(cell.source)]));
}

export class Follower {
  constructor({ lab, panel }) {
    this.lab = lab;
    this.panel = panel;
    /** Whether somebody has changed the notebook itself in this page: outputs are no change of somebody's. */
    this.edited = false;
    /** Executions that another page has asked for, and will save. */
    this.others = new Set();
    this.saving = false;
    this.looking = false;
    this.seen = '';
    /** The file that JupyterLab asks about, as the server names it. */
    this.asked = '';
    /** What the server answered to the last save. */
    this.written = null;
    /** Whether the server says that whoever looks here may only look. */
    this.viewer = false;
    const { context } = panel;
    void context.ready.then(() => this.begin());
    const { contents } = lab.app.serviceManager;
    const written = (_, { type, newValue }) => {
      if (type === 'save' && newValue && newValue.path === context.path) {
        this.written = newValue;
      }
    };
    contents.fileChanged.connect(written);
    context.saveState.connect((_, state) => {
      this.saving = state === 'started';
      if (this.saving) {
        this.sent = this.typed();
        this.written = null;
      } else if (state === 'completed') {
        this.edited = this.typed() !== this.sent;
        this.base = this.sent;
        this.keepWritten();
      }
    });
    this.look = this.look.bind(this);
    const events = [
      [window, 'focus'],
      [window, 'online'],
      [document, 'visibilitychange']
    ];
    events.forEach(([target, name]) => target.addEventListener(name, this.look));
    const timer = setInterval(this.look, LOOK_MS);
    const viewing = setInterval(() => this.isViewer && this.look(), VIEWER_MS);
    panel.disposed.connect(() => {
      contents.fileChanged.disconnect(written);
      clearInterval(timer);
      clearInterval(viewing);
      events.forEach(([target, name]) => target.removeEventListener(name, this.look));
    });
    panel.sessionContext.connectionStatusChanged.connect((_, status) => {
      if (status === 'connected') {
        setTimeout(this.look, SOON_MS);
      }
    });
  }

  typed() {
    return typed(this.panel.context.model.toJSON().cells);
  }

  /** What a save of this page may write over, as the server names it: what the page has seen, or what it has asked about. */
  get replaces() {
    const known = this.panel.context.contentsModel;
    return this.asked || (known && known.hash) || undefined;
  }

  /** JupyterLab asks after its save how the file is named, and could take for its own what another page has written by then. */
  keepWritten() {
    const { context } = this.panel;
    if (this.written && this.written.hash && context.contentsModel.hash !== this.written.hash) {
      const { hash, last_modified } = this.written;
      context._updateContentsModel({ ...context.contentsModel, hash, last_modified });
    }
  }

  /**
   * Whether to save: where the file has changed and people typed on one side only, that side counts, and nobody is asked.
   */
  async beforeSave() {
    const { context } = this.panel;
    this.asked = '';
    try {
      const { contents } = this.lab.app.serviceManager;
      if (!this.differs(await contents.get(context.path, { content: false, hash: true }))) {
        return true;
      }
      const file = await contents.get(context.path, { type: 'notebook', format: 'json', content: true, hash: true });
      const [there, here] = [typed(file.content.cells || []), this.typed()];
      if (there === this.base || there === here) {
        context._updateContentsModel(file);
      } else if (here === this.base) {
        await this.take(file);
        return false;
      } else {
        // JupyterLab asks which of the two counts.
        this.asked = file.hash;
      }
    } catch (error) {
      // JupyterLab's own save says what is wrong.
      this.lab.warn(error);
    }
    return true;
  }

  begin() {
    const { model } = this.panel.context;
    this.edited = false;
    this.base = this.typed();
    const note = (_, change) => {
      if (this.patching || !change) {
        return;
      }
      if (change.sourceChange || change.cellsChange || change.attachmentsChange) {
        this.edited = true;
      }
    };
    const listen = () => {
      for (const cell of model.cells) {
        cell.sharedModel.changed.disconnect(note);
        cell.sharedModel.changed.connect(note);
      }
    };
    model.sharedModel.changed.connect(note);
    model.cells.changed.connect(listen);
    listen();
    model.stateChanged.connect((_, change) => {
      if (change.name === 'dirty' && change.newValue && !this.edited && this.others.size) {
        // Whoever asked for it saves it: two that do would be in each other's way.
        void Promise.resolve().then(() => (model.dirty = this.edited));
      }
    });
  }

  /** Whether this page may look and not run anything: it does not hear the kernel, and has the file only. */
  get isViewer() {
    const { sessionContext } = this.panel;
    return !this.panel.isDisposed && sessionContext.isReady && (this.viewer || !sessionContext.session);
  }

  leave(id) {
    this.others.add(id);
  }

  back(id) {
    setTimeout(() => this.others.delete(id), SOON_MS);
  }

  /** Whether something here would be lost. */
  get isBusy() {
    const { content, context } = this.panel;
    const typing = content.mode === 'edit' && document.hasFocus() && content.node.contains(document.activeElement);
    return this.saving || (context.model.dirty && this.edited) || typing;
  }

  async look() {
    const { context } = this.panel;
    if (this.panel.isDisposed || this.looking || !context.isReady || document.hidden || this.isBusy) {
      return;
    }
    this.looking = true;
    try {
      await this.follow();
    } catch (error) {
      if (!this.panel.isDisposed) {
        this.lab.warn(error);
      }
    } finally {
      this.looking = false;
    }
  }

  async follow() {
    const { context } = this.panel;
    const { contents } = this.lab.app.serviceManager;
    const now = this.isViewer ? await this.whatRuns() : '';
    const running = now !== this.seen;
    const found = await contents.get(context.path, { content: false, hash: true });
    if (!running && !this.differs(found)) {
      return;
    }
    const file = await contents.get(context.path, { type: 'notebook', format: 'json', content: true, hash: true });
    if (this.panel.isDisposed || this.isBusy || (!running && !this.differs(file))) {
      return;
    }
    this.seen = now;
    await this.take(file);
  }

  /** Show what is in the file. */
  async take(file) {
    const { context } = this.panel;
    if (this.patch(file.content)) {
      // JupyterLab has no public way to say: this is the file that is shown.
      context._updateContentsModel(file);
    } else {
      await context.revert();
    }
    this.edited = false;
    this.base = this.typed();
    context.model.dirty = false;
    if (this.care) {
      this.care.resumer.sync();
    }
  }

  /** A word on all that the kernels of this notebook do. */
  async whatRuns() {
    const told = await this.lab.guardian(this.panel.context.localPath);
    const now = JSON.stringify(told.executions || []);
    return now.includes('"running"') ? now + Date.now() : now;
  }

  differs(file) {
    const known = this.panel.context.contentsModel;
    if (!known) {
      return false;
    }
    return known.hash && file.hash ? known.hash !== file.hash : known.last_modified !== file.last_modified;
  }

  /** Change what differs; say no where cells came, went or moved. */
  patch(content) {
    const { cells } = this.panel.context.model;
    const wanted = content.cells || [];
    const fits = wanted.length === cells.length && wanted.every((cell, at) => cell.id === cells.get(at).id && cell.cell_type === cells.get(at).type);
    if (!fits) {
      return false;
    }
    this.patching = true;
    try {
      wanted.forEach((cell, at) => this.patchCell(cells.get(at), cell));
    } finally {
      this.patching = false;
    }
    return true;
  }

  patchCell(model, wanted) {
    const source = text(wanted.source);
    if (model.sharedModel.getSource() !== source) {
      model.sharedModel.setSource(source);
    }
    if (!same(model.metadata, wanted.metadata || {})) {
      model.sharedModel.setMetadata({ ...model.metadata, ...(wanted.metadata || {}) });
    }
    if (model.type !== 'code' || model.executionState === 'running') {
      return;
    }
    const outputs = whole(wanted.outputs || []);
    if (!same(whole(model.outputs.toJSON()), outputs)) {
      model.outputs.fromJSON(outputs);
    }
    if (model.executionCount !== (wanted.execution_count || null)) {
      model.executionCount = wanted.execution_count || null;
    }
  }
}
