/*
 * The front end of cupola.lab.guardian.stops.stop: a strip above all else that warns before a planned stop, with the time left
 * and what can be done about it, and "Hibernate this session" in the File menu and the command palette.
 *
 * It also tells the session when somebody last used this page, and saves what is open when the session is to be stopped.
 */
import { GATEWAYS, STRANGER, Server, loader, make, sleep } from '../../cupola-shared/shared.js';

const NAME = 'cupola-stop';
const STOP = 'guardian/stop';
const HIBERNATE = 'cupola:hibernate-session';
const AS_JOB = 'cupola:run-notebook-as-job';
const WAIT_S = 20;
/** Somebody who comes back while a stop is near is told of soon: they may have put it off by that. */
const NEAR_WAIT_S = 5;
const NEAR_MS = 2000;
const AGAIN_MS = 5000;
const SHOWN_MS = 8000;
const MOST_NOTEBOOKS = 3;
const LEAST_WIDTH = 200;
/** Seconds before the end at which somebody who hears the page is told again. */
const SAID_AT = [300, 60, 15];
const USES = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart'];
const BECOMES = { hibernate: 'hibernated', age: 'hibernated', version: 'restarted' };

/** The time left, as a clock shows it. */
function clock(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const two = number => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(left / 3600), Math.floor(left / 60) % 60];
  return (hours ? hours + ':' + two(minutes) : String(minutes)) + ':' + two(left % 60);
}

/** The time left, as it is said. */
function words(seconds) {
  const many = (number, word) => number + ' ' + word + (number === 1 ? '' : 's');
  return seconds >= 90 ? many(Math.round(seconds / 60), 'minute') : many(Math.round(seconds), 'second');
}

/** The strip: what comes, when and why, and what can be done. */
class Strip {
  constructor(stops) {
    this.stops = stops;
    this.title = make('strong', { className: 'cupola-stop-title' });
    this.left = make('span', { className: 'cupola-stop-left' });
    this.left.setAttribute('role', 'timer');
    this.why = make('span', { className: 'cupola-stop-why' });
    this.buttons = make('span', { className: 'cupola-stop-buttons' });
    // A clock that is read out each second is no help: this says it now and then.
    this.said = make('span', { className: 'cupola-stop-said' });
    this.said.setAttribute('role', 'alert');
    Object.assign(this.left.style, { fontVariantNumeric: 'tabular-nums', fontWeight: 'bold' });
    Object.assign(this.why.style, { flex: '1 1 12rem' });
    Object.assign(this.buttons.style, { display: 'flex', flexWrap: 'wrap', gap: '6px' });
    Object.assign(this.said.style, { position: 'absolute', width: '1px', height: '1px', overflow: 'hidden', clipPath: 'inset(50%)' });
    this.parts = [make('span', {}, this.title, ' ', this.left), this.why, this.buttons];
    const node = make('section', { className: 'cupola-stop' }, ...this.parts, this.said);
    node.setAttribute('aria-label', 'Planned stop of this session');
    Object.assign(node.style, {
      display: 'flex',
      flexWrap: 'wrap',
      alignItems: 'center',
      // Its height is measured by its lines, however high it was before.
      alignContent: 'flex-start',
      gap: '4px 14px',
      padding: '6px 12px',
      minHeight: '32px',
      overflow: 'auto',
      boxSizing: 'border-box',
      background: 'var(--jp-layout-color2)',
      color: 'var(--jp-ui-font-color0)',
      fontSize: 'var(--jp-ui-font-size1)',
      borderBottom: '1px solid var(--jp-border-color1)',
      borderLeft: '6px solid var(--jp-warn-color0, #ef6c00)'
    });
    this.widget = new stops.widgets.Widget({ node });
    this.widget.id = 'cupola-stop';
  }

  show() {
    if (!this.widget.isAttached) {
      this.stops.app.shell.add(this.widget, 'header', { rank: 0 });
    }
  }

  hide() {
    const header = this.widget.parent;
    this.widget.parent = null;
    this.said.textContent = '';
    if (header && header.widgets && !header.widgets.length) {
      header.hide();
    }
  }

  /** Give the strip the height that its text needs in a window of this width. */
  fit() {
    const { node } = this.widget;
    if (node.offsetWidth < LEAST_WIDTH) {
      // It has no place yet: its lines would be as many as its words.
      requestAnimationFrame(() => this.widget.isAttached && this.fit());
      return;
    }
    node.style.minHeight = '32px';
    let height = 12;
    for (const child of this.parts) {
      height = Math.max(height, child.offsetTop + child.offsetHeight + 6);
    }
    node.style.minHeight = Math.min(height, 160) + 'px';
    this.widget.parent && this.widget.parent.fit();
  }

  /** Offer what can be done; buttons that stay keep the focus. */
  offer(actions) {
    const key = JSON.stringify(actions.map(one => [one.label, one.title]));
    if (key === this.key) {
      return;
    }
    this.key = key;
    this.buttons.replaceChildren(
      ...actions.map(({ label, title, accent, run }) => {
        const button = make('button', { type: 'button', textContent: label, title: title || '' });
        button.className = 'jp-mod-styled ' + (accent ? 'jp-mod-accept' : 'jp-mod-reject');
        button.addEventListener('click', () => {
          button.disabled = true;
          void Promise.resolve(run()).finally(() => (button.disabled = false));
        });
        return button;
      })
    );
  }

  say(text) {
    this.said.textContent = text;
  }
}

class Stops {
  constructor(app, parts, tracker) {
    Object.assign(this, parts, { app, tracker });
    this.server = new Server(parts.services);
    this.page = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
    this.used = performance.now();
    this.strip = new Strip(this);
    this.plan = null;
    this.due = 0;
    this.saved = '';
    this.over = false;
    this.ending = '';
    for (const use of USES) {
      document.addEventListener(use, () => (this.used = performance.now()), { capture: true, passive: true });
    }
    window.addEventListener('resize', () => this.plan && this.strip.fit());
  }

  /** Seconds until the stop. */
  get left() {
    return Math.max(0, (this.due - performance.now()) / 1000);
  }

  /** Ask what is planned, again and again; the answer comes when there is something new. */
  async listen() {
    let wait = 0;
    for (;;) {
      const began = performance.now();
      const before = this.key;
      try {
        const idle = Math.round((began - this.used) / 1000);
        this.hear(await this.server.ask(STOP, { wait, idle, page: this.page }));
        wait = this.plan ? NEAR_WAIT_S : WAIT_S;
      } catch (error) {
        this.lost(error);
        await sleep(AGAIN_MS);
        continue;
      }
      // A server that answers at once is not asked without pause.
      const took = performance.now() - began;
      if (this.key === before && took < NEAR_MS) {
        await sleep(this.plan ? NEAR_MS : AGAIN_MS);
      }
    }
  }

  hear(plan) {
    const before = this.plan;
    this.plan = plan;
    this.key = plan ? [plan.kind, plan.reason, plan.keepable, plan.snapshot].join('|') : '';
    if (!plan) {
      if (before || this.over) {
        this.withdraw();
      }
      return;
    }
    this.due = performance.now() + 1000 * (plan.seconds === null ? (new Date(plan.at) - Date.now()) / 1000 : plan.seconds);
    if (!before) {
      this.announced = [];
      this.timer = setInterval(() => this.tick(), 1000);
    }
    this.strip.show();
    this.tick();
    if (plan.snapshot && plan.snapshot !== this.saved) {
      this.saved = plan.snapshot;
      void this.save().then(() => this.server.ask(STOP, {}, { wish: 'saved', page: this.page })).catch(error => console.warn(NAME, error));
    }
  }

  withdraw() {
    clearInterval(this.timer);
    this.ending = '';
    this.over = false;
    this.strip.hide();
  }

  /** The server does not answer: after the time of a stop that is what was announced. */
  lost(error) {
    const over = this.plan && this.left === 0;
    if (STRANGER.includes(error.status) && (this.plan || this.over)) {
      this.plan = null;
      this.withdraw(); // it was started again: the page is told elsewhere
    } else if ((this.ending || over) && (error.status === undefined || GATEWAYS.includes(error.status))) {
      this.ending = '';
      clearInterval(this.timer);
      this.ended();
    }
  }

  /** Show what is left of the time. */
  tick() {
    const { plan, strip } = this;
    const becomes = BECOMES[plan.kind] || 'stopped';
    const now = this.left === 0 || plan.snapshot;
    const coming = now ? 'This session is being ' + becomes + '.' : 'This session will be ' + becomes + ' in';
    strip.title.textContent = coming;
    strip.left.textContent = now ? '' : clock(this.left);
    strip.why.textContent = now ? 'What is open is saved and its variables are written down.' : plan.reason;
    strip.offer(now ? [] : this.actions());
    const due = SAID_AT.filter(seconds => this.left <= seconds && !this.announced.includes(seconds));
    if (!this.announced.length || due.length) {
      this.announced.push(0, ...due);
      strip.say(coming + (now ? ' ' : ' ' + words(this.left) + '. ') + plan.reason);
    }
    strip.fit();
  }

  /** What can be done about it. */
  actions() {
    const { plan } = this;
    const actions = [];
    if (plan.keepable) {
      actions.push({ label: 'Keep alive', accent: true, run: () => this.keep() });
    }
    for (const panel of this.computing().slice(0, MOST_NOTEBOOKS)) {
      const name = panel.title.label;
      actions.push({
        label: 'Turn ' + name + ' into a job',
        title: 'It runs from its first cell to its last on the batch engine, whatever becomes of this session',
        run: () => this.asJob(panel)
      });
    }
    actions.push({ label: 'Hibernate now', run: () => this.hibernate() });
    return actions;
  }

  /** The notebooks with a cell that runs, if they can be made jobs. */
  computing() {
    const found = [];
    if (this.tracker && this.app.commands.hasCommand(AS_JOB)) {
      this.tracker.forEach(panel => {
        const session = panel.sessionContext.session;
        if (session && session.kernel && session.kernel.status === 'busy') {
          found.push(panel);
        }
      });
    }
    return found;
  }

  async asJob(panel) {
    this.app.shell.activateById(panel.id);
    await this.app.commands.execute(AS_JOB);
  }

  async keep() {
    try {
      await this.server.ask(STOP, {}, { wish: 'keep' });
      this.hear(null);
      this.apputils.Notification.success('This session stays.', { autoClose: SHOWN_MS });
    } catch (error) {
      await this.apputils.showErrorMessage('This session cannot be kept', error.message);
    }
  }

  async hibernate() {
    const { showDialog, Dialog, showErrorMessage, Notification } = this.apputils;
    const names = this.computing().map(panel => panel.title.label);
    const body =
      'What is open is saved and the variables of Python kernels are written down; then the session stops. ' +
      'Wake it on the page of your sessions: it comes back with them.' +
      (names.length ? ' Cells that run are stopped: ' + names.join(', ') + '.' : '');
    const buttons = [Dialog.cancelButton(), Dialog.okButton({ label: 'Hibernate' })];
    const said = await showDialog({ title: 'Hibernate this session?', body, buttons });
    if (!said.button.accept) {
      return;
    }
    try {
      await this.save();
      this.ending = 'hibernate';
      await this.server.ask(STOP, {}, { wish: 'hibernate' });
      Notification.info('This session is being hibernated.', { autoClose: SHOWN_MS });
    } catch (error) {
      this.ending = '';
      await showErrorMessage('This session cannot be hibernated', error.message);
    }
  }

  /** Save all that is open and was changed. */
  async save() {
    if (this.app.commands.hasCommand('docmanager:save-all') && this.app.commands.isEnabled('docmanager:save-all')) {
      await this.app.commands.execute('docmanager:save-all').catch(error => console.warn(NAME, error));
    }
  }

  /** Say that the session has ended, and where it is woken. */
  ended() {
    const { strip } = this;
    const page = this.coreutils.PageConfig.getOption('hubPrefix').replace(/hub\/$/, '') + 'services/cupola/sessions';
    strip.show();
    strip.title.textContent = 'This session has been stopped.';
    strip.left.textContent = '';
    strip.why.textContent = 'Wake it on the page of your sessions.';
    strip.offer([{ label: 'Open my sessions', accent: true, run: () => void window.open(page, '_blank', 'noopener') }]);
    strip.say('This session has been stopped. Wake it on the page of your sessions.');
    strip.fit();
    this.plan = null;
    this.over = true;
  }
}

function activate(app, parts, tracker, palette, menu) {
  const stops = new Stops(app, parts, tracker);
  app.commands.addCommand(HIBERNATE, {
    label: 'Hibernate this session',
    caption: 'Write down the variables and stop; wake the session with them when you need it again',
    execute: () => stops.hibernate()
  });
  if (palette) {
    palette.addItem({ command: HIBERNATE, category: 'File Operations' });
  }
  if (menu) {
    menu.fileMenu.addGroup([{ command: HIBERNATE }], 90);
  }
  void app.restored.then(() => stops.listen()).catch(error => console.warn(NAME, error));
}

export async function extension(scope) {
  const load = loader(NAME, scope);
  const names = ['services', 'apputils', 'coreutils', 'notebook', 'mainmenu'];
  const [services, apputils, coreutils, notebook, mainmenu] = await Promise.all(names.map(name => load('@jupyterlab/' + name)));
  const widgets = await load('@lumino/widgets');
  return {
    id: NAME + ':plugin',
    description: 'Warns before a planned stop of the session, and hibernates it.',
    autoStart: true,
    optional: [notebook.INotebookTracker, apputils.ICommandPalette, mainmenu.IMainMenu],
    activate: (app, tracker, palette, menu) =>
      activate(app, { services, apputils, coreutils, widgets }, tracker, palette, menu)
  };
}
