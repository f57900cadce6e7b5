/*
 * The front end of cupola.lab.guardian: a page that comes back, or is opened anew, takes up the executions of its notebook.
 *
 * It sends the request of an execution again under the same message id. The server knows the id and tells what was put out
 * so far and what follows; JupyterLab's own output area shows it. An id that the server does not know is executed.
 */
(function () {
  'use strict';
  const NAME = 'cupola-guardian';
  let shared = {};

  async function load(name) {
    const versions = shared[name] || {};
    const newest = Object.keys(versions).sort().pop();
    if (!newest) {
      throw new Error(NAME + ': JupyterLab does not share ' + name);
    }
    return (await versions[newest].get())();
  }

  /** The executions of one notebook in one page. */
  class Notebook {
    constructor(parts, panel) {
      this.parts = parts;
      this.panel = panel;
      this.syncing = null;
      panel.sessionContext.connectionStatusChanged.connect((_, status) => {
        if (status === 'connected') {
          void this.sync();
        }
      });
      panel.sessionContext.kernelChanged.connect(() => void this.sync());
      void panel.sessionContext.ready.then(() => this.sync());
      void panel.revealed.then(() => this.sync());
    }

    get kernel() {
      const session = this.panel.sessionContext.session;
      return session && session.kernel;
    }

    async told() {
      const services = this.parts.services;
      const settings = services.ServerConnection.makeSettings();
      const address = new URL(settings.baseUrl + 'cupola/api/guardian', location.href);
      address.search = new URLSearchParams({ path: this.panel.context.localPath }).toString();
      const answer = await services.ServerConnection.makeRequest(address.href, {}, settings);
      return answer.ok ? await answer.json() : { executions: [] };
    }

    /** Bring the cells to what the server knows; one at a time. */
    sync() {
      this.syncing = (this.syncing || Promise.resolve()).then(() => this.doSync()).catch(error => console.warn(NAME, error));
      return this.syncing;
    }

    async doSync() {
      const kernel = this.kernel;
      if (!kernel || this.panel.isDisposed) {
        return;
      }
      await this.panel.context.ready;
      const told = await this.told();
      const cells = new Map(this.panel.content.widgets.map(cell => [cell.model.id, cell]));
      const known = new Set();
      for (const one of told.executions) {
        known.add(one.id);
        const cell = cells.get(one.cell);
        if (cell && one.kernel === kernel.id && this.wants(cell, one)) {
          this.resume(cell, one.id);
        }
      }
      for (const cell of cells.values()) {
        const future = cell.outputArea && cell.outputArea.future;
        // Sent, and perhaps lost with the network: whoever does not know it executes it.
        if (future && !future.isDisposed && !known.has(future.msg.header.msg_id) && cell.model.executionState === 'running') {
          this.resume(cell, future.msg.header.msg_id);
        }
      }
    }

    wants(cell, one) {
      const future = cell.outputArea.future;
      const mine = future && future.msg.header.msg_id === one.id;
      if (one.state === 'queued' || one.state === 'running') {
        return true;
      }
      return (mine && cell.model.executionState === 'running') || (!one.settled && cell.model.executionCount !== one.count);
    }

    resume(cell, id) {
      const { KernelMessage } = this.parts.services;
      const kernel = this.kernel;
      const content = {
        code: cell.model.sharedModel.getSource(),
        silent: false,
        store_history: true,
        user_expressions: {},
        allow_stdin: true,
        stop_on_error: true
      };
      const message = KernelMessage.createMessage({
        msgType: 'execute_request',
        channel: 'shell',
        username: kernel.username,
        session: kernel.clientId,
        msgId: id,
        content,
        metadata: { cellId: cell.model.id }
      });
      const before = cell.outputArea.future;
      if (before && before.msg.header.msg_id === id) {
        // The kernel connection forgets a future by its id: the old one goes before the new one comes.
        cell.outputArea.detachFuture().dispose();
      }
      const future = kernel.sendShellMessage(message, true, false);
      cell.outputArea.future = future;
      cell.model.executionState = 'running';
      cell.model.trusted = true;
      const over = reply => {
        if (!cell.isDisposed && cell.outputArea.future === future) {
          cell.model.executionCount = (reply && reply.content.execution_count) || null;
          cell.model.executionState = 'idle';
        }
      };
      future.done.then(over, () => undefined);
    }
  }

  async function extension() {
    const [services, notebook] = await Promise.all(['services', 'notebook'].map(name => load('@jupyterlab/' + name)));
    return {
      __esModule: true,
      default: {
        id: NAME + ':plugin',
        description: 'Brings notebooks to what their kernels said while the page was away.',
        autoStart: true,
        requires: [notebook.INotebookTracker],
        activate: (app, tracker) => {
          tracker.widgetAdded.connect((_, panel) => new Notebook({ services }, panel));
          tracker.forEach(panel => new Notebook({ services }, panel));
        }
      }
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: scope => {
      shared = scope;
    },
    get: async () => {
      const found = await extension();
      return () => found;
    }
  };
})();
