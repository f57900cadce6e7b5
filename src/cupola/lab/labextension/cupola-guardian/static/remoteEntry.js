/*
 * The front end of cupola.lab.guardian: a page that comes back, or is opened anew, shows what its kernels said meanwhile.
 *
 * It is small enough to be written as JupyterLab loads it (a module federation container), without a build: `init` gets
 * the modules that JupyterLab shares, `get` answers with our plugins. The parts lie beside this file.
 */
(function () {
  'use strict';
  const NAME = 'cupola-guardian';
  const HERE = new URL('.', document.currentScript.src);
  const PARTS = ['tools', 'resume', 'follow', 'connection', 'drafts', 'away', 'variables', 'saved'];
  const MODULES = ['application', 'apputils', 'mainmenu', 'notebook', 'services'];
  let shared = {};

  /** Return a module of JupyterLab itself. */
  async function load(name) {
    const versions = shared[name] || {};
    const newest = Object.keys(versions).sort().pop();
    if (!newest) {
      throw new Error(NAME + ': JupyterLab does not share ' + name);
    }
    return (await versions[newest].get())();
  }

  /** What takes care of one notebook. */
  function watch(lab, parts, panel) {
    const care = { lab, panel };
    care.follower = new parts.follow.Follower(care);
    care.follower.care = care;
    care.resumer = new parts.resume.Resumer(care);
    care.draft = new parts.drafts.Draft(care);
    care.news = new parts.away.News(care);
    care.saved = new parts.saved.Saved(care);
    return care;
  }

  async function extension() {
    const style = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: new URL('style.css', HERE).href });
    document.head.append(style);
    const parts = {};
    const loaded = {};
    await Promise.all([
      ...PARTS.map(async name => (parts[name] = await import(new URL(name + '.js', HERE).href))),
      ...MODULES.map(async name => (loaded[name] = await load('@jupyterlab/' + name))),
      load('@lumino/widgets').then(widgets => (loaded.widgets = widgets))
    ]);
    const { application, mainmenu, notebook } = loaded;
    let one = null;
    const labOf = app => (one = one || new parts.tools.Lab(NAME, app, loaded));
    const connection = {
      id: NAME + ':connection',
      description: 'Says quietly that the connection is lost, and takes it up again.',
      autoStart: true,
      provides: application.IConnectionLost,
      optional: [application.JupyterLab.IInfo, notebook.INotebookTracker],
      activate: (app, info, tracker) => {
        const lab = labOf(app);
        const watcher = new parts.connection.Connection(lab, info, tracker);
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
        tracker.widgetAdded.connect((_, panel) => watch(lab, parts, panel));
        tracker.forEach(panel => watch(lab, parts, panel));
        parts.variables.addEntry(lab, tracker, menu);
        void app.restored.then(() => parts.away.tellOfOthers(lab, tracker));
      }
    };
    return { __esModule: true, default: [connection, plugin] };
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
