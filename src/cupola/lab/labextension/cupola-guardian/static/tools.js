/* What the parts share. */

/** JupyterLab, as the parts need it. */
export class Lab {
  constructor(name, app, modules) {
    this.name = name;
    this.app = app;
    this.modules = modules;
    this.settings = modules.services.ServerConnection.makeSettings();
    /** What the parts tell each other: whether this browser keeps drafts, and how to look after the connection. */
    this.state = { keeps: true, check: () => undefined };
  }

  /** Whether nobody has answered. */
  isUnanswered(error) {
    return error instanceof TypeError || error instanceof this.modules.services.ServerConnection.NetworkError;
  }

  /** Ask the session's server, with the XSRF token as JupyterLab's own calls. */
  async ask(path, query, body) {
    const { ServerConnection } = this.modules.services;
    const address = new URL(this.settings.baseUrl + 'cupola/api/' + path, location.href);
    address.search = new URLSearchParams(query || {}).toString();
    const init = body ? { method: 'POST', body: JSON.stringify(body) } : { cache: 'no-store' };
    const answer = await ServerConnection.makeRequest(address.href, init, this.settings);
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      throw Object.assign(new Error(told.message || 'HTTP ' + answer.status), { status: answer.status });
    }
    return told;
  }

  /** What the server knows of a notebook. */
  guardian(path) {
    return this.ask('guardian', path === undefined ? {} : { path });
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

/** Make an element. Everything that comes from a notebook becomes text, never markup. */
export function make(tag, fields, ...children) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
}

export function sleep(ms) {
  return new Promise(resolve => setTimeout(resolve, ms));
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
