/* What the parts share. */
import { Server, make, sleep } from '../../cupola-shared/shared.js';

export { make, sleep };

/** JupyterLab, as the parts need it. */
export class Lab extends Server {
  constructor(name, app, modules) {
    super(modules.services);
    this.name = name;
    this.app = app;
    this.modules = modules;
    /** What the parts tell each other: whether this browser keeps drafts, and how to look after the connection. */
    this.state = { keeps: true, check: () => undefined };
  }

  /** Whether nobody has answered. */
  isUnanswered(error) {
    return error instanceof this.modules.services.ServerConnection.NetworkError;
  }

  /** What the server knows of a notebook. */
  guardian(path) {
    return this.ask('guardian', path === undefined ? {} : { path });
  }

  /** Close what JupyterLab has just begun to ask about a notebook, before it is seen: it is said elsewhere, and stops nobody. */
  dropDialog(path) {
    let newest = null;
    this.modules.apputils.Dialog.tracker.forEach(one => (newest = one));
    if (newest && !newest.isAttached && newest.node.textContent.includes(path)) {
      newest.reject();
    }
  }

  warn(error) {
    console.warn(this.name, error);
  }

  /** A page's own setting of JupyterLab. */
  option(name) {
    const node = document.getElementById('jupyter-config-data');
    try {
      return String(JSON.parse(node.textContent)[name] || '');
    } catch {
      return '';
    }
  }

  /** The portal's page with the sessions; nothing outside a hub. */
  get sessions() {
    const hub = this.option('hubPrefix');
    return hub && this.option('hubHost') + hub.replace(/hub\/$/, '') + 'services/cupola/sessions';
  }
}

/** The id of an execution that a cell follows. */
export function idOf(future) {
  return future && future.msg.header.msg_id;
}

/** Call `act` once within `ms`, however often it is asked for: `call.now` does not wait. */
export function throttle(ms, act) {
  let timer = 0;
  const end = () => {
    clearTimeout(timer);
    timer = 0;
  };
  const run = () => {
    end();
    act();
  };
  const call = () => {
    timer = timer || setTimeout(run, ms);
  };
  call.now = () => timer && run();
  call.stop = end;
  return call;
}

export function cellsById(panel) {
  return new Map(panel.content.widgets.map(cell => [cell.model.id, cell]));
}

/** Show a cell, and let it be seen which one is meant. */
export async function showCell(panel, id) {
  const index = panel.content.widgets.findIndex(cell => cell.model.id === id);
  if (index < 0) {
    return false;
  }
  panel.content.activeCellIndex = index;
  panel.content.deselectAll();
  await panel.content.scrollToItem(index, 'center').catch(() => undefined);
  const { node } = panel.content.widgets[index];
  node.classList.add('cupola-flash');
  setTimeout(() => node.classList.remove('cupola-flash'), 2500);
  return true;
}
