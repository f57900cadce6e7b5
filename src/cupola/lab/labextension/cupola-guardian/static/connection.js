/*
 * The connection to the session: lost quietly, taken up again by itself. Kernels go on meanwhile, so there is nothing to
 * decide and no dialog; only a session that has ended needs somebody.
 */
import { GATEWAYS, STRANGER, make } from '../../cupola-shared/shared.js';

const BLIP_MS = 2500;
const FIRST_MS = 1500;
const LONGEST_MS = 5000;
const ENDED_MS = 30000;
const ENDED_AFTER_MS = 20000;
const TICK_MS = 2000;
/** JupyterLab itself waits up to a minute before it tries again. */
const CUT_MS = 3000;
const BETWEEN_MS = 6000;
const ASLEEP_MS = 30000;
const SHOWN_MS = 4000;

/** Whether somebody else than the session's server answered: a proxy, or the hub, that does not find it just now. */
function isFromGateway(answer) {
  const kind = answer.headers.get('Content-Type') || '';
  return GATEWAYS.includes(answer.status) || (answer.status === 404 && !kind.includes('json'));
}

/** Have JupyterLab take such answers for a lost network: else it takes kernels for dead, which go on. */
export function mindGateways(settings) {
  const before = settings.fetch;
  const api = new URL(settings.baseUrl + 'api/', location.href).href;
  settings.fetch = async (request, ...more) => {
    const answer = await before.call(null, request, ...more);
    const address = new URL(typeof request === 'string' ? request : request.url || String(request), location.href).href;
    if (address.startsWith(api) && isFromGateway(answer)) {
      throw new TypeError('The session does not answer: HTTP ' + answer.status);
    }
    return answer;
  };
}

/** Close what JupyterLab asks about saves that fell into the time without a connection: it saves again by itself. */
function closeSaveErrors() {
  for (const dialog of document.querySelectorAll('.jp-Dialog')) {
    const head = dialog.querySelector('.jp-Dialog-header');
    const button = dialog.querySelector('.jp-Dialog-footer button');
    if (head && button && head.textContent.startsWith('File Save Error') && /fetch|network|answer/i.test(dialog.textContent)) {
      button.click();
    }
  }
}

export class Connection {
  constructor(lab, info, tracker) {
    this.lab = lab;
    this.info = info;
    this.tracker = tracker;
    this.since = 0;
    this.refusedSince = 0;
    this.timer = 0;
    this.wait = FIRST_MS;
    this.before = [];
    this.notice = null;
    this.ended = this.toldAgain = false;
    this.asking = false;
    this.ticked = Date.now();
    mindGateways(lab.app.serviceManager.serverSettings);
    /** When kernels were last seen connected, and last connected anew by us. */
    this.connected = new WeakMap();
    this.revived = new WeakMap();
    const now = () => this.check();
    window.addEventListener('online', now);
    window.addEventListener('pageshow', now);
    document.addEventListener('visibilitychange', () => !document.hidden && this.check());
    setInterval(() => this.tick(), TICK_MS);
  }

  /** Say it with an element of our own: those of JupyterLab are loaded when the first one is shown, which is too late. */
  say(text, ...deeds) {
    this.close();
    this.notice = make('div', { className: 'cupola-connection' }, make('span', { textContent: text }), ...deeds);
    this.notice.setAttribute('role', 'status');
    document.body.append(this.notice);
  }

  /** The kernel connections of this page. */
  kernels() {
    const found = new Set();
    for (const widget of this.lab.app.shell.widgets('main')) {
      const context = widget.sessionContext;
      const kernel = context && context.session && context.session.kernel;
      if (kernel && !kernel.isDisposed) {
        found.add(kernel);
      }
    }
    return [...found];
  }

  /** JupyterLab could not reach the server. */
  lost() {
    if (this.since) {
      return;
    }
    this.since = Date.now();
    this.before = this.kernels();
    this.wait = FIRST_MS;
    if (this.info) {
      // Nothing is saved meanwhile, instead of failing each time.
      this.info.isConnected = false;
    }
    setTimeout(() => this.show(), BLIP_MS);
    this.later(FIRST_MS);
  }

  /** What becomes of typed text meanwhile. */
  get kept() {
    return this.lab.state.keeps
      ? 'What you type in notebooks is kept in this browser, and saved afterwards.'
      : 'This browser keeps nothing: do not close the page, or copy what you typed.';
  }

  show() {
    if (!this.since || this.notice) {
      return;
    }
    this.say(`The connection is lost; your kernels go on. ${this.kept} Trying again ...`);
  }

  later(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), ms);
  }

  /** Notice that the computer slept, and kernel connections that gave up. */
  tick() {
    const slept = Date.now() - this.ticked > ASLEEP_MS;
    this.ticked = Date.now();
    if (slept && !this.since) {
      // A connection that was cut meanwhile does not know it yet.
      this.reviving = true;
      void this.check();
    } else if (!this.since && this.cut().length) {
      void this.check();
    }
  }

  /** Kernels whose connection was there and is not any more, for longer than a moment. */
  cut() {
    const now = Date.now();
    return this.kernels().filter(kernel => {
      if (kernel.connectionStatus === 'connected') {
        this.connected.set(kernel, now);
      }
      return now - (this.connected.get(kernel) || now) > CUT_MS;
    });
  }

  revive(kernel) {
    if (Date.now() - (this.revived.get(kernel) || 0) > BETWEEN_MS) {
      this.revived.set(kernel, Date.now());
      kernel.reconnect().catch(error => this.lab.warn(error));
    }
  }

  /** Ask whether the server is there. */
  async check() {
    if (this.asking) {
      return;
    }
    this.asking = true;
    const answer = await this.ask().catch(() => null);
    this.asking = false;
    if (answer === null) {
      this.refusedSince = 0;
      this.since ? this.again() : this.lost();
    } else if (answer === 'ours') {
      this.back();
    } else if (answer === 'stranger') {
      this.tellAgain();
    } else {
      this.refused();
    }
  }

  /** Who answers: the session's own server, which may not know us any more, or another; fails where nobody does. */
  async ask() {
    const settings = this.lab.settings;
    const headers = settings.token ? { Authorization: 'token ' + settings.token } : {};
    const limit = AbortSignal.timeout ? { signal: AbortSignal.timeout(LONGEST_MS) } : {};
    const answer = await fetch(settings.baseUrl + 'api/status', { cache: 'no-store', redirect: 'manual', headers, ...limit });
    const own = (answer.headers.get('Content-Type') || '').includes('json');
    return own && answer.ok ? 'ours' : own && STRANGER.includes(answer.status) ? 'stranger' : 'other';
  }

  again() {
    this.wait = Math.min(1.5 * this.wait, this.ended ? ENDED_MS : LONGEST_MS);
    this.later(this.ended ? ENDED_MS : this.wait);
  }

  /** Somebody else answers in its place: the session starts again, has ended, or we are signed out. */
  refused() {
    this.lost();
    this.toldAgain = false;
    this.refusedSince = this.refusedSince || Date.now();
    if (!this.ended && Date.now() - this.refusedSince > ENDED_AFTER_MS) {
      this.tellEnd();
    }
    this.again();
  }

  tellEnd() {
    this.ended = true;
    const kept = this.lab.state.keeps
      ? 'What you typed in notebooks is kept in this browser: it is offered when they are opened again.'
      : 'This browser keeps nothing: copy what you typed before you close the page.';
    const link = make('a', { href: this.lab.sessions, target: '_blank', rel: 'noopener', textContent: 'Show the sessions' });
    this.say('This session has ended, or you are signed out. ' + kept, link);
  }

  /** The session was started again, as by a wake: it knows us when the page is loaded again. */
  tellAgain() {
    this.lost();
    this.ended = true;
    if (!this.toldAgain) {
      this.toldAgain = true;
      const load = make('button', { type: 'button', textContent: 'Load this page again', onclick: () => location.reload() });
      this.say('This session runs again.', load);
    }
    this.again();
  }

  close() {
    if (this.notice) {
      this.notice.remove();
      this.notice = null;
    }
  }

  /** Say whether the kernels went on meanwhile. */
  async tellBack() {
    const ids = new Set(this.before.map(kernel => kernel.id));
    const running = await this.lab.modules.services.KernelAPI.listRunning(this.lab.settings).catch(() => null);
    if (this.since) {
      return;
    }
    const lost = running && [...ids].some(id => !running.some(kernel => kernel.id === id));
    const went = ids.size && running ? (lost ? ' A kernel was lost: its notebook says what is back.' : ' Your kernels went on.') : '';
    this.say('Reconnected.' + went);
    const { notice } = this;
    setTimeout(() => this.notice === notice && this.close(), lost ? 2 * SHOWN_MS : SHOWN_MS);
  }

  back() {
    const lost = this.since > 0;
    const shown = this.notice !== null;
    const long = lost && Date.now() - this.since > BLIP_MS;
    clearTimeout(this.timer);
    this.since = this.refusedSince = 0;
    this.ended = this.toldAgain = false;
    if (this.info) {
      this.info.isConnected = true;
    }
    this.close();
    if (lost) {
      closeSaveErrors();
    }
    if (shown) {
      void this.tellBack();
    }
    const cut = new Set(this.cut());
    for (const kernel of this.kernels()) {
      // After a while without a network a connection may be cut and not know it.
      if (cut.has(kernel) || long || this.reviving) {
        this.revive(kernel);
      }
    }
    this.reviving = false;
  }
}
