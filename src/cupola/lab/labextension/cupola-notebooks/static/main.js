/*
 * The front end of cupola.lab.notebooks: "Run this notebook as a job" in the notebook's toolbar, the File menu and the
 * command palette, and notifications about what became of it.
 */
import { Server, loader, make } from '../../cupola-shared/shared.js';

const NAME = 'cupola-notebooks';
const COMMAND = 'cupola:run-notebook-as-job';
const LABEL = 'Run this notebook as a job';
const LOOK_MS = 3000;
/** The address of a Lab that is opened with this in it shows the form at once: the portal's pages link to that. */
const ASKED = 'cupola-job';

/** The jobs whose end is to be told, kept so that a page that is loaded anew still tells it. */
class Watched {
  constructor(base) {
    this.key = NAME + ':' + base;
  }

  all() {
    try {
      return JSON.parse(localStorage.getItem(this.key)) || {};
    } catch {
      return {};
    }
  }

  set(id, job) {
    // cupola-notices tells of all other jobs.
    (window._cupolaNotebookJobs = window._cupolaNotebookJobs || new Set()).add(id);
    const jobs = this.all();
    if (job) {
      jobs[id] = job;
    } else {
      delete jobs[id];
    }
    localStorage.setItem(this.key, JSON.stringify(jobs));
  }
}

/** What there is to choose for the batch engine: the default one is chosen by naming none. */
function engines(known) {
  if (!known.length) {
    return [{ value: '', text: "the platform's default", help: '' }];
  }
  return known.map(one => ({
    value: one.default ? '' : one.name,
    text: one.title + (one.default && known.length > 1 ? ' (default)' : '') + (one.answers ? '' : ', cannot be used now'),
    help: one.text
  }));
}

/** The form: a field per parameter, then what the job may use. */
function form(widgets, seen, busy) {
  const node = make('div', { className: 'cupola-notebook-job' });
  Object.assign(node.style, { display: 'grid', gap: '8px', minWidth: '26rem' });
  const fields = { parameters: {}, options: {} };
  const field = (kind, name, value, label, help, hint) => {
    const input = make('input', { type: 'text', value, className: 'jp-mod-styled', name: kind + '-' + name, placeholder: hint || '' });
    input.style.width = '100%';
    fields[kind][name] = input;
    const line = make('label', {}, make('span', { textContent: label }), input);
    if (help) {
      line.append(make('small', { textContent: help }));
    }
    node.append(line);
  };
  /** A list to choose from, with a word on what is chosen. */
  const choice = (name, label, offers) => {
    const select = make('select', { className: 'jp-mod-styled', name: 'options-' + name });
    select.style.width = '100%';
    select.append(...offers.map(({ value, text }) => make('option', { value, textContent: text })));
    fields.options[name] = select;
    const help = make('small', { textContent: offers[0].help });
    select.addEventListener('change', () => (help.textContent = offers[select.selectedIndex].help));
    node.append(make('label', {}, make('span', { textContent: label }), select), help);
  };
  const words = text => node.append(make('div', { textContent: text }));
  words(
    'It runs from its first cell to its last, as it is saved now, with a kernel of its own' +
      (busy ? '; what the kernel computes now is not carried over.' : '.')
  );
  for (const one of seen.parameters) {
    field('parameters', one.name, one.default, one.name, one.help);
  }
  if (!seen.parameters.length) {
    words(
      seen.tagged
        ? 'Its cell with the tag “parameters” names none that can be changed here.'
        : 'To change values here, give the cell that holds them the tag “parameters”.'
    );
  }
  field('options', 'cpus', '1', 'Cores');
  field('options', 'memory', '2 GiB', 'Memory');
  field('options', 'time', '', 'Longest time', '', 'as long as it needs, or 2 h');
  choice('engine', 'Batch engine', engines(seen.engines || []));
  const body = new widgets.Widget({ node });
  body.getValue = () => {
    const texts = kind => Object.fromEntries(Object.entries(fields[kind]).map(([name, input]) => [name, input.value]));
    const options = Object.fromEntries(Object.entries(texts('options')).filter(([, text]) => text.trim()));
    if (/^\d+$/.test((options.cpus || '').trim())) {
      options.cpus = Number(options.cpus);
    }
    return { parameters: texts('parameters'), options };
  };
  return body;
}

class Jobs {
  constructor(app, parts, tracker) {
    Object.assign(this, parts, { app, tracker, told: {} });
    this.server = new Server(parts.services);
    this.watched = new Watched(this.server.settings.baseUrl);
  }

  /** Ask for parameters and start the notebook that is open in `panel`. */
  async run(panel, computes = false) {
    const { Notification, showDialog, Dialog, showErrorMessage } = this.apputils;
    const path = panel.context.path;
    try {
      await panel.context.ready;
      if (panel.context.model.dirty && !panel.context.model.readOnly) {
        await panel.context.save();
      }
      const seen = await this.server.ask('notebooks', { path });
      const kernel = panel.sessionContext.session && panel.sessionContext.session.kernel;
      const body = form(this.widgets, seen, computes || Boolean(kernel && kernel.status === 'busy'));
      const buttons = [Dialog.cancelButton(), Dialog.okButton({ label: 'Run as a job' })];
      const said = await showDialog({ title: 'Run ' + seen.name + ' as a job', body, buttons });
      if (!said.button.accept) {
        return;
      }
      const told = Notification.emit('Starting ' + seen.name + ' as a job ...', 'in-progress', { autoClose: false });
      try {
        const job = await this.server.ask('notebooks', {}, { path, ...said.value });
        Notification.dismiss(told);
        this.show('info', seen.name + ' runs as the job ' + job.id + '.', job, []);
        this.watched.set(job.id, { id: job.id, page: job.page, path, name: seen.name });
        this.look();
      } catch (error) {
        Notification.update({ id: told, message: error.message, type: 'error', autoClose: false });
      }
    } catch (error) {
      await showErrorMessage('This notebook cannot run as a job', error.message);
    }
  }

  show(type, text, job, actions) {
    const page = { label: 'Show the job', callback: () => void window.open(job.page, '_blank', 'noopener') };
    if (this.told[job.id]) {
      this.apputils.Notification.dismiss(this.told[job.id]);
    }
    this.told[job.id] = this.apputils.Notification[type](text, { autoClose: false, actions: [...actions, page] });
  }

  /** Look after the jobs that run until the last has ended. */
  look() {
    clearTimeout(this.timer);
    const again = async () => {
      for (const job of Object.values(this.watched.all())) {
        await this.lookAt(job).catch(error => console.warn(NAME, error));
      }
      if (Object.keys(this.watched.all()).length) {
        this.timer = setTimeout(again, LOOK_MS);
      }
    };
    this.timer = setTimeout(again, LOOK_MS / 3);
  }

  async lookAt(job) {
    const response = await this.server.ask('jobs/' + job.id).catch(error => ({ error }));
    if (response.error) {
      // Somebody has forgotten the job; whatever else it is, the portal may come back.
      if (/not found|no job/i.test(response.error.message)) {
        this.watched.set(job.id, null);
      }
      return;
    }
    if (['queued', 'running', 'held'].includes(response.state)) {
      return;
    }
    const { result } = await this.server.ask('notebooks/result', { path: job.path, job: job.id });
    this.watched.set(job.id, null);
    const open = { label: 'Open the result', displayType: 'accent', callback: () => this.open(result) };
    const done = response.state === 'done';
    const words = done ? ' is done.' : response.state === 'cancelled' ? ' was cancelled.' : ' failed.';
    this.show(done ? 'success' : 'error', job.name + ' (' + job.id + ')' + words, job, result ? [open] : []);
  }

  open(path) {
    void this.app.commands.execute('docmanager:open', { path });
  }

  /** Show the form at once where the address asks for it, for the notebook that the address opens. */
  async runAsked(path) {
    const panel = await this.app.commands.execute('docmanager:open', { path });
    if (panel && panel.context) {
      // The kernel is not connected yet, and it computes: that is why the portal offers this.
      await this.run(panel, true);
    }
  }
}

function activate(app, parts, tracker, palette, menu) {
  const jobs = new Jobs(app, parts, tracker);
  app.commands.addCommand(COMMAND, {
    label: LABEL,
    caption: 'Run it from its first cell to its last on the batch engine; the result lies beside it',
    isEnabled: () => Boolean(tracker.currentWidget),
    execute: () => tracker.currentWidget && jobs.run(tracker.currentWidget)
  });
  tracker.currentChanged.connect(() => app.commands.notifyCommandChanged(COMMAND));
  app.docRegistry.addWidgetExtension('Notebook', {
    createNew: panel => {
      const button = new parts.apputils.ToolbarButton({
        label: 'Run as a job',
        tooltip: LABEL,
        onClick: () => void jobs.run(panel)
      });
      button.addClass('cupola-run-as-job');
      panel.toolbar.insertItem(10, 'cupolaRunAsJob', button);
      return button;
    }
  });
  if (palette) {
    palette.addItem({ command: COMMAND, category: 'Notebook Operations' });
  }
  if (menu) {
    menu.fileMenu.addGroup([{ command: COMMAND }], 6);
  }
  const asked = parts.asked;
  void app.restored.then(() => {
    jobs.look();
    if (asked) {
      jobs.runAsked(asked).catch(error => console.warn(NAME, error));
    }
  });
}

export async function extension(scope) {
  const load = loader(NAME, scope);
  // JupyterLab changes its address soon: what it was opened with is read first.
  const wanted = new URLSearchParams(location.search).has(ASKED);
  const asked = wanted ? decodeURIComponent(location.pathname.split('/tree/')[1] || '') : '';
  const names = ['services', 'apputils', 'notebook', 'mainmenu'];
  const [services, apputils, notebook, mainmenu] = await Promise.all(names.map(name => load('@jupyterlab/' + name)));
  const widgets = await load('@lumino/widgets');
  return {
    id: NAME + ':plugin',
    description: 'Runs a notebook as a job.',
    autoStart: true,
    requires: [notebook.INotebookTracker],
    optional: [apputils.ICommandPalette, mainmenu.IMainMenu],
    activate: (app, tracker, palette, menu) =>
      activate(app, { services, apputils, widgets, asked }, tracker, palette, menu)
  };
}
