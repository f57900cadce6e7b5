/*
 * What our extensions of JupyterLab share. They are small enough to be written as JupyterLab loads them (module federation
 * containers), without a build: each `static/remoteEntry.js` is such a container, and loads `main.js` beside it.
 *
 * This file lies beside the extensions and is none itself; they import it by its address relative to theirs, so below any base URL.
 */

/** What a proxy or the hub says where the session's server does not answer; what the server says to those it does not know. */
export const GATEWAYS = [424, 502, 503, 504];
export const STRANGER = [401, 403];

/** Return what loads modules of JupyterLab itself, from the scope that a container is given. */
export function loader(name, scope) {
  return async wanted => {
    const versions = scope[wanted] || {};
    const newest = Object.keys(versions).sort().pop();
    if (!newest) {
      throw new Error(name + ': JupyterLab does not share ' + wanted);
    }
    return (await versions[newest].get())();
  };
}

/** The session's server, asked with the XSRF token as JupyterLab's own calls. */
export class Server {
  constructor(services) {
    this.connection = services.ServerConnection;
    this.settings = this.connection.makeSettings();
  }

  /** Ask what is below `cupola/api/`: GET, or POST where there is a body. */
  async ask(path, query, body) {
    const address = new URL(this.settings.baseUrl + 'cupola/api/' + path, location.href);
    address.search = new URLSearchParams(query || {}).toString();
    const init = body ? { method: 'POST', body: JSON.stringify(body) } : { cache: 'no-store' };
    const answer = await this.connection.makeRequest(address.href, init, this.settings);
    const told = await answer.json().catch(() => null);
    if (!answer.ok) {
      const why = told && (told.problem || told.detail || told.message);
      throw Object.assign(new Error(why || 'HTTP ' + answer.status), { status: answer.status });
    }
    return told;
  }
}

/** Make an element. Everything that comes from elsewhere becomes text, never markup. */
export function make(tag, fields, ...children) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
}

export function sleep(ms) {
  return new Promise(resolve => setTimeout(resolve, ms));
}
