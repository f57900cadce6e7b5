/*
 * A page takes up the executions of its notebook: it sends the request of an execution again under the same message id. The
 * server knows the id and tells what was put out so far and what follows; JupyterLab's own output area shows it. An id that
 * the server does not know is executed: so whatever a page is not sure of it asks again.
 */
import { cellsById, idOf, sleep } from './tools.js';

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30000;
const SAVE_MS = 500;
const BETWEEN_SAVES_MS = 5000;
const STDIN = 'jp-OutputArea-stdin-item';

/** Whether a message tells again what the cell may have shown before. */
function isAgain(message) {
  return message.metadata && message.metadata.cupola === 'again';
}

/** What is told again goes to the cell alone: what listens in on an execution (`Output` of ipywidgets) had it before. */
function keepFromListeners(future) {
  const handle = future.handleMsg.bind(future);
  future.handleMsg = async msg => (isAgain(msg) && msg.channel === 'iopub' ? future.onIOPub(msg) : handle(msg));
  return future;
}

export class Resumer {
  constructor(care) {
    this.care = care;
    this.lab = care.lab;
    this.panel = care.panel;
    /** How often this page was connected; what was sent over an older connection is asked for again. */
    this.connections = 0;
    /** The connection over which an execution is followed, by its id. */
    this.live = new Map();
    /** Executions that were over before this page's eyes. */
    this.received = new Set();
    /** What passes messages on to the futures of JupyterLab's own requests, by execution. */
    this.forwarders = new Map();
    this.wanted = false;
    this.syncing = false;
    this.saved = 0;
    this.kernel = null;
    /** The kernel has died, and is being started again; then, that it was, and nobody has said so yet. */
    this.died = false;
    this.toTell = false;
    /** The lost kernels in whose place this page has asked for another one. */
    this.replaced = new Set();
    const context = this.panel.sessionContext;
    context.connectionStatusChanged.connect((_, status) => {
      if (status === 'connected') {
        this.connections += 1;
        this.sync();
      }
    });
    context.statusChanged.connect((_, status) => this.seeStatus(status));
    context.kernelChanged.connect(() => this.listen());
    context.sessionChanged.connect(() => this.listen());
    const seen = () => !document.hidden && this.kernel && this.kernel.isDisposed && this.sync();
    document.addEventListener('visibilitychange', seen);
    this.panel.disposed.connect(() => document.removeEventListener('visibilitychange', seen));
    void context.ready.then(() => this.listen());
    void this.panel.revealed.then(() => this.listen());
    this.saveWhenRun();
  }

  get isOver() {
    return this.panel.isDisposed || !this.panel.content || this.panel.content.isDisposed;
  }

  /** Hear what the kernel says, whoever asked. */
  listen() {
    if (this.isOver) {
      return;
    }
    const session = this.panel.sessionContext.session;
    const kernel = session && session.kernel;
    if (kernel && kernel !== this.kernel) {
      this.kernel = kernel;
      this.live.clear();
      this.sayPlaces(kernel);
      kernel.anyMessage.connect(this.hear, this);
    }
    this.sync();
  }

  /** Say with each request which cell stands before its own: a cell that never comes into the file is put back behind it. */
  sayPlaces(kernel) {
    const request = kernel.requestExecute.bind(kernel);
    kernel.requestExecute = (content, dispose, metadata) => request(content, dispose, this.placed(metadata));
  }

  placed(metadata) {
    const { model } = this.panel.context;
    const ids = metadata && metadata.cellId && model ? [...model.cells].map(cell => cell.id) : [];
    const after = ids[ids.indexOf(metadata && metadata.cellId) - 1];
    return after ? { ...metadata, cupola: { ...metadata.cupola, after } } : metadata;
  }

  hear(kernel, { msg, direction }) {
    const { msg_type: kind, msg_id: id } = msg.header;
    const parent = (msg.parent_header || {}).msg_id;
    if (direction === 'send') {
      if (kind === 'execute_request') {
        // What waits for the connection goes over the next one.
        this.live.set(id, this.connections + (kernel.connectionStatus === 'connected' ? 0 : 1));
      }
    } else if (kind === 'execute_reply') {
      // Over another connection than its first words it is not all there is.
      if (this.follows(parent)) {
        this.received.add(parent);
      }
    } else if (kind === 'execute_input' && !this.live.has(parent)) {
      // Another page runs something.
      this.live.set(parent, -1);
      this.sync();
    } else if (kind === 'cupola_answered') {
      this.takeBack(kernel, parent);
    } else if (kind === 'cupola_unnoted') {
      this.lab.modules.apputils.Notification.warning(
        'What you run is executed, but cannot be written down (' + msg.content.why + '): if the connection is lost, its output may be, too.',
        { autoClose: false }
      );
    }
  }

  /** Whether an execution was asked for, or taken up, over this very connection: then nothing of it was missed. */
  follows(id) {
    return this.live.get(id) >= this.connections;
  }

  /** Bring the cells to what the server knows: one at a time, and again if it fails. */
  sync() {
    this.wanted = true;
    if (!this.syncing) {
      this.syncing = true;
      void this.syncUntilDone().finally(() => (this.syncing = false));
    }
  }

  async syncUntilDone() {
    let wait = FIRST_WAIT_MS;
    while (this.wanted && !this.isOver) {
      this.wanted = false;
      try {
        await this.doSync();
        wait = FIRST_WAIT_MS;
      } catch (error) {
        this.lab.warn(error);
        if (error.status === 403 || error.status === 404) {
          return;
        }
        this.wanted = true;
        await sleep(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT_MS);
      }
    }
  }

  async doSync() {
    const kernel = this.kernel;
    if (!kernel) {
      return;
    }
    if (kernel.isDisposed) {
      await this.replace();
      return;
    }
    await this.panel.context.ready;
    const connection = this.connections;
    const told = await this.lab.guardian(this.panel.context.localPath);
    if (this.isOver || kernel.isDisposed || kernel !== this.kernel || connection !== this.connections) {
      this.wanted = true;
      return;
    }
    this.care.follower.viewer = Boolean(told.viewer);
    if (told.viewer) {
      // Nothing to run, nothing to tell the server: the file says what there is.
      return;
    }
    this.care.news.show(told);
    if (!told.on) {
      return;
    }
    this.tellOfDeath(told);
    if (told.lost && told.lost.coming) {
      setTimeout(() => this.sync(), FIRST_WAIT_MS);
    }
    const cells = cellsById(this.panel);
    const known = new Set();
    for (const one of told.executions) {
      known.add(one.id);
      const cell = cells.get(one.cell);
      if (cell && cell.model.type === 'code') {
        this.care.saved.has(cell, one);
      }
      if (cell && cell.model.type === 'code' && one.kernel === kernel.id && this.wants(cell, one)) {
        this.resume(cell, one.id, one);
      }
    }
    for (const future of this.unknown(cells, known)) {
      this.resume(future.cell, idOf(future.cell.outputArea.future), {});
    }
  }

  /** A kernel that died under an open page and is started again: the line at the head says so, and JupyterLab need not. */
  seeStatus(status) {
    const { session } = this.panel.sessionContext;
    if (status === 'autorestarting' && session && this.care.news.told && this.care.news.told.on) {
      this.died = true;
      this.lab.dropDialog(session.path);
    } else if (this.died && (status === 'idle' || status === 'busy')) {
      this.died = false;
      this.toTell = true;
      this.sync();
    }
  }

  /** Whatever else is not known of a kernel that died: that it did. */
  tellOfDeath(told) {
    if (this.toTell && !told.lost) {
      const text = `The kernel of ${this.panel.context.localPath} died and was started again, without its variables.`;
      this.lab.modules.apputils.Notification.warning(text, { autoClose: false });
    }
    this.toTell = false;
  }

  /** A kernel that was lost under an open page: say so, and have another one, as the notebook would on being opened. */
  async replace() {
    const { context, sessionContext } = this.panel;
    const told = await this.lab.guardian(context.localPath);
    if (this.isOver || sessionContext.session || !told.on) {
      return;
    }
    this.care.news.show(told);
    // Of two pages the one that is looked at begins, and the other one joins it.
    if (!told.lost || this.replaced.has(told.lost.id) || (document.hidden && !told.kernel)) {
      return;
    }
    this.replaced.add(told.lost.id);
    await (told.kernel ? sessionContext.changeKernel({ id: told.kernel.id }) : sessionContext.startKernel());
  }

  /** Requests that were sent and perhaps lost with the network, in their order: whoever does not know them executes them. */
  unknown(cells, known) {
    const found = [];
    for (const cell of cells.values()) {
      const future = cell.outputArea && cell.outputArea.future;
      const id = idOf(future);
      if (future && !future.isDisposed && !known.has(id) && !this.received.has(id) && !this.follows(id)) {
        found.push({ cell, date: future.msg.header.date });
      }
    }
    return found.sort((one, other) => (one.date < other.date ? -1 : 1));
  }

  wants(cell, one) {
    if (this.received.has(one.id) || this.follows(one.id)) {
      return false;
    }
    // What has just ended may have ended after the file was read, or while this page came back.
    if (one.state === 'queued' || one.state === 'running' || (one.recent && !one.settled && one.count !== null)) {
      return true;
    }
    const future = cell.outputArea.future;
    const mine = idOf(future) === one.id && !future.isDisposed;
    return mine || (!one.settled && one.count !== null && cell.model.executionCount !== one.count);
  }

  message(cell, id) {
    const { KernelMessage } = this.lab.modules.services;
    const before = cell.outputArea.future;
    const tags = cell.model.getMetadata('tags') || [];
    const content = {
      code: cell.model.sharedModel.getSource(),
      silent: false,
      store_history: true,
      user_expressions: {},
      allow_stdin: true,
      stop_on_error: !tags.includes('raises-exception')
    };
    return KernelMessage.createMessage({
      msgType: 'execute_request',
      channel: 'shell',
      username: this.kernel.username,
      session: this.kernel.clientId,
      msgId: id,
      // What was sent, even if the cell was changed meanwhile.
      content: idOf(before) === id ? before.msg.content : content,
      metadata: this.placed({ ...(idOf(before) === id ? before.msg.metadata : {}), cellId: cell.model.id })
    });
  }

  resume(cell, id, told) {
    if (this.kernel.status === 'dead') {
      return;
    }
    const message = this.message(cell, id);
    const before = cell.outputArea.future;
    const typed = this.removeQuestions(cell.outputArea);
    const earlier = this.forwarders.get(id);
    if (earlier) {
      this.forwarders.delete(id);
      earlier.dispose();
    }
    if (idOf(before) === id && !before.isDisposed) {
      this.passOn(before, message);
    } else {
      this.attach(cell, message);
    }
    this.restoreTyped(cell.outputArea, typed);
    if (told.elsewhere) {
      this.care.follower.leave(id);
    }
  }

  /** JupyterLab waits for the future of its own request: it gets what comes for the new one. */
  passOn(before, message) {
    const id = idOf(before);
    const future = keepFromListeners(this.kernel.sendShellMessage(message, true, true));
    this.forwarders.set(id, future);
    future.onIOPub = msg => (isAgain(msg) ? before.onIOPub(msg) : before.handleMsg(msg));
    future.onReply = msg => before.handleMsg(msg);
    future.onStdin = msg => before.handleMsg(msg);
    const forget = () => {
      if (this.forwarders.get(id) === future) {
        this.forwarders.delete(id);
        return true;
      }
      return false;
    };
    // Given up with its kernel: JupyterLab must not wait for ever.
    future.done.then(forget, () => forget() && before.dispose());
  }

  /** An execution of another page, or of this one before it was loaded anew. */
  attach(cell, message) {
    const future = keepFromListeners(this.kernel.sendShellMessage(message, true, false));
    cell.outputArea.reattachFuture(future);
    cell.model.executionState = 'running';
    cell.model.trusted = true;
    const over = reply => {
      this.care.follower.back(idOf(future));
      if (cell.isDisposed || cell.outputArea.future !== future) {
        return;
      }
      if (reply && cell.model.executionCount !== reply.content.execution_count) {
        cell.model.executionCount = reply.content.execution_count || null;
      }
      cell.model.executionState = 'idle';
      this.removeQuestions(cell.outputArea);
    };
    future.done.then(over, () => over(null));
  }

  // -- questions -------------------------------------------------------------------------------------------------

  /** Remove the boxes of questions; return what was typed. */
  removeQuestions(area) {
    let typed = '';
    for (const widget of [...area.layout.widgets]) {
      if (widget.hasClass(STDIN)) {
        const input = widget.node.querySelector('input');
        typed = (input && !widget.hasClass('jp-OutputArea-stdin-hiding') && input.value) || typed;
        widget.dispose();
      }
    }
    return typed;
  }

  restoreTyped(area, typed) {
    if (!typed) {
      return;
    }
    const put = (_, widget) => {
      area.inputRequested.disconnect(put);
      widget.node.querySelector('input').value = typed;
    };
    area.inputRequested.connect(put);
  }

  /** Somebody else has answered. */
  takeBack(kernel, id) {
    for (const cell of this.panel.content.widgets) {
      if (cell.outputArea && idOf(cell.outputArea.future) === id) {
        this.removeQuestions(cell.outputArea);
        kernel.hasPendingInput = false;
      }
    }
  }

  // -- saving ----------------------------------------------------------------------------------------------------

  /** What is run is saved: whoever comes back finds the cells as they were run. */
  saveWhenRun() {
    const { NotebookActions } = this.lab.modules.notebook;
    let timer = 0;
    const save = () => {
      timer = 0;
      const { context } = this.panel;
      if (!this.isOver && context.model.dirty && context.canSave !== false && !document.querySelector('.jp-Dialog')) {
        this.saved = Date.now();
        context.save().catch(error => this.lab.warn(error));
      }
    };
    const run = (_, { notebook }) => {
      if (!this.isOver && notebook === this.panel.content && !timer) {
        timer = setTimeout(save, Math.max(SAVE_MS, this.saved + BETWEEN_SAVES_MS - Date.now()));
      }
    };
    NotebookActions.executionScheduled.connect(run);
    this.panel.disposed.connect(() => NotebookActions.executionScheduled.disconnect(run));
  }
}
