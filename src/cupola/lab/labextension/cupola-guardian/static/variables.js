/* "Variables kept" in the Kernel menu: what the newest snapshot holds, what it leaves out and why. */
import { listVariables } from './away.js';
import { make } from './tools.js';

const COMMAND = 'cupola:variables-kept';

export function addEntry(lab, tracker, menu) {
  const { commands } = lab.app;
  const current = () => {
    const session = tracker.currentWidget && tracker.currentWidget.sessionContext.session;
    return session && session.kernel;
  };
  commands.addCommand(COMMAND, {
    label: 'Variables Kept…',
    caption: 'What would come back if this kernel were lost',
    isEnabled: () => tracker.currentWidget === lab.app.shell.currentWidget && Boolean(current()),
    execute: () => show(lab, tracker.currentWidget, current())
  });
  if (menu) {
    menu.kernelMenu.addGroup([{ command: COMMAND }], 90);
  }
}

async function show(lab, panel, kernel) {
  const { apputils, widgets } = lab.modules;
  const { Dialog } = apputils;
  const told = await lab.guardian(panel.context.localPath);
  const kept = told.kernel && told.kernel.kept;
  const nothing = 'Nothing is kept yet: this is done between cells, two seconds after the last one. Not every kernel can.';
  const node = kept ? listVariables(kept) : make('p', { textContent: nothing });
  const result = await apputils.showDialog({
    title: 'Variables kept',
    body: new widgets.Widget({ node }),
    buttons: [Dialog.okButton({ label: 'Keep now', actions: ['keep'] }), Dialog.cancelButton({ label: 'Close' })]
  });
  if (result.button.accept) {
    await keep(lab, panel, kernel);
  }
}

async function keep(lab, panel, kernel) {
  const { Notification } = lab.modules.apputils;
  const id = Notification.emit('Keeping the variables ...', 'in-progress', { autoClose: false });
  try {
    const said = await lab.ask('guardian/snapshot', {}, { kernel: kernel.id });
    const message = said.problem ? 'The variables were not kept: ' + said.problem + '.' : said.kept.text;
    Notification.update({ id, message, type: said.problem ? 'error' : 'success', autoClose: 10000 });
  } catch (error) {
    Notification.update({ id, message: error.message, type: 'error', autoClose: false });
  }
}
