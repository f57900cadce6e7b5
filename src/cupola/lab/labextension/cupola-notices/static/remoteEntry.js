/* How JupyterLab loads this extension: `init` gets the modules that it shares, `get` answers with our plugins, which `main.js` has. */
(function () {
  'use strict';
  const HERE = new URL('.', document.currentScript.src);
  const NAME = HERE.pathname.split('/').at(-3);
  let scope = {};

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: given => {
      scope = given;
    },
    get: async () => {
      const { extension } = await import(new URL('main.js', HERE).href);
      const found = { __esModule: true, default: await extension(scope) };
      return () => found;
    }
  };
})();
