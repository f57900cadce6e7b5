/*
 * The front end of cupola.lab.guardian: a page that comes back, or is opened anew, shows what its kernels said meanwhile.
 * The parts lie beside this file.
 */
import { loader } from '../../cupola-shared/shared.js';
import { News, tellOfOthers } from './away.js';
import { Connection } from './connection.js';
import { Draft } from './drafts.js';
import { Follower } from './follow.js';
import { Resumer } from './resume.js';
import { Saved } from './saved.js';
import { Lab } from './tools.js';
import { addEntry } from './variables.js';

const NAME = 'cupola-guardian';
const MODULES = ['application', 'apputils', 'mainmenu', 'notebook', 'services'];

/** What takes care of one notebook. */
function watch(lab, panel) {
  const care = { lab, panel };
  care.follower = new Follower(care);
  care.follower.care = care;
  care.resumer = new Resumer(care);
  care.draft = new Draft(care);
  care.news = new News(care);
  care.saved = new Saved(care);
  return care;
}

export async function extension(scope) {
  const load = loader(NAME, scope);
  const style = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: new URL('style.css', import.meta.url).href });
  document.head.append(style);
  const loaded = {};
  await Promise.all([
    ...MODULES.map(async name => (loaded[name] = await load('@jupyterlab/' + name))),
    load('@lumino/widgets').then(widgets => (loaded.widgets = widgets))
  ]);
  const { application, mainmenu, notebook } = loaded;
  let one = null;
  const labOf = app => (one = one || new Lab(NAME, app, loaded));
  const connection = {
    id: NAME + ':connection',
    description: 'Says quietly that the connection is lost, and takes it up again.',
    autoStart: true,
    provides: application.IConnectionLost,
    optional: [application.JupyterLab.IInfo, notebook.INotebookTracker],
    activate: (app, info, tracker) => {
      const lab = labOf(app);
      const watcher = new Connection(lab, info, tracker);
      lab.state.check = () => watcher.check();
      return async () => watcher.lost();
    }
  };
  const plugin = {
    id: NAME + ':plugin',
    description: 'Brings notebooks to what their kernels said while the page was away.',
    autoStart: true,
    requires: [notebook.INotebookTracker],
    optional: [mainmenu.IMainMenu],
    activate: (app, tracker, menu) => {
      const lab = labOf(app);
      tracker.widgetAdded.connect((_, panel) => watch(lab, panel));
      tracker.forEach(panel => watch(lab, panel));
      addEntry(lab, tracker, menu);
      void app.restored.then(() => tellOfOthers(lab, tracker));
    }
  };
  return [connection, plugin];
}
