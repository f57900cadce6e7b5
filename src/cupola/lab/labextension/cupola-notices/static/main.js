/*
 * The front end of cupola.lab.notices: a word in the status bar, and notifications of storage, packages and jobs that end.
 */
import { Server, loader, sleep } from '../../cupola-shared/shared.js';

const NAME = 'cupola-notices';
const LOOK_MS = 60000;
const SOON_MS = 2000;
const ENDS_MS = 15000;
/** A job that was over sooner was watched by whoever started it. */
const LONG_MS = 30000;
const SHOWN_MS = 20000;
const MOST_ENDS = 3;

/** How full the home is: in the status bar, and loudly once it matters. */
async function showStorage(server, apputils, widgets, bar) {
  const word = new widgets.Widget();
  word.addClass('jp-StatusBar-TextItem');
  word.id = 'cupola-storage';
  bar.registerStatusItem('cupola-notices:storage', { item: word, align: 'right', rank: 50 });
  let told = 'fine';
  async function look() {
    try {
      const seen = await server.ask('storage');
      word.node.textContent = seen.word;
      word.node.title = seen.text;
      if (seen.fullness !== told) {
        told = seen.fullness;
        if (told === 'full') {
          apputils.Notification.error('Your home is full: nothing can be saved. Delete what you do not need.', {
            autoClose: false
          });
        } else if (told === 'nearly') {
          apputils.Notification.warning('Your home is nearly full. Delete what you do not need.', { autoClose: false });
        }
      }
    } catch (error) {
      console.warn(NAME, error);
    }
    setTimeout(look, LOOK_MS);
  }
  await look();
}

/** What became of packages that were installed on another version. Nothing is installed before it is asked for. */
async function showPackages(server, apputils) {
  let seen = await server.ask('packages');
  while (seen.state === 'looking') {
    await sleep(SOON_MS);
    seen = await server.ask('packages');
  }
  if (seen.state !== 'planned') {
    return;
  }
  async function restore() {
    const id = apputils.Notification.emit('Installing your packages ...', 'in-progress', { autoClose: false });
    let now = await server.ask('packages', {}, { deed: 'restore' });
    while (now.state === 'restoring') {
      await sleep(SOON_MS);
      now = await server.ask('packages');
    }
    const type = now.state === 'restored' ? 'success' : 'error';
    apputils.Notification.update({ id, message: now.text || 'Your packages are as they were.', type, autoClose: false });
  }
  apputils.Notification.info(seen.text, {
    autoClose: false,
    actions: [
      { label: 'Install them', displayType: 'accent', callback: () => void restore() },
      { label: 'Do without', callback: () => void server.ask('packages', {}, { deed: 'dismiss' }) }
    ]
  });
}

/** The ends of one's jobs, wherever they were started, that came since the Lab was opened. */
async function showEnds(server, apputils, coreutils) {
  const root = coreutils.PageConfig.getOption('hubPrefix').replace(/hub\/$/, '') + 'services/cupola/';
  const { newest } = await server.ask('notifications/unread');
  let seen = newest;
  function show({ title, end }) {
    const type = { done: 'success', cancelled: 'info' }[end.state] || 'error';
    const page = { label: 'Show the job', callback: () => void window.open(root + 'jobs/' + end.job, '_blank', 'noopener') };
    apputils.Notification[type](title, { autoClose: SHOWN_MS, actions: [page] });
  }
  async function look() {
    const unread = await server.ask('notifications/unread');
    if (unread.newest <= seen) {
      return;
    }
    const { items } = await server.ask('notifications');
    // The notebooks that run as jobs are told of by the part that started them.
    const others = window._cupolaNotebookJobs || new Set();
    const ended = items.filter(
      one =>
        one.id > seen && !one.read && !others.has(one.end.job) && new Date(one.end.ended) - new Date(one.end.created) > LONG_MS
    );
    seen = unread.newest;
    if (ended.length > MOST_ENDS) {
      apputils.Notification.info(ended.length + ' of your jobs have ended.', { autoClose: SHOWN_MS });
    } else {
      ended.reverse().forEach(show);
    }
  }
  async function again() {
    await look().catch(error => console.warn(NAME, error));
    setTimeout(again, document.hidden ? LOOK_MS : ENDS_MS);
  }
  setTimeout(again, ENDS_MS);
}

export async function extension(scope) {
  const load = loader(NAME, scope);
  const server = new Server(await load('@jupyterlab/services'));
  const apputils = await load('@jupyterlab/apputils');
  const coreutils = await load('@jupyterlab/coreutils');
  const widgets = await load('@lumino/widgets');
  const statusbar = await load('@jupyterlab/statusbar');
  const plugin = {
    id: NAME + ':plugin',
    description: 'Tells how full the home is, what became of installed packages, and which jobs have ended.',
    autoStart: true,
    optional: [statusbar.IStatusBar],
    activate: (app, bar) => {
      const failed = error => console.warn(NAME, error);
      void app.restored.then(() => {
        if (bar) {
          showStorage(server, apputils, widgets, bar).catch(failed);
        }
        showPackages(server, apputils).catch(failed);
        showEnds(server, apputils, coreutils).catch(failed);
      });
    }
  };
  return plugin;
}
