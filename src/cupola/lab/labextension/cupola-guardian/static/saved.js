/*
 * A page says, after it has saved its notebook, of which executions it had heard the end before: what they put out is in the
 * file now, or was cleared on purpose. Until then the server gives it again to whoever opens the notebook.
 */
const AGAIN_MS = 15000;
const TRIES = 3;

/** Whether somebody else has saved the notebook between this page's look at the file and its own save. */
const isOvertaken = error => Boolean(error && error.response && error.response.status === 409);

/**
 * JupyterLab lets saves overlap (its timer's and a person's): the second one takes what the first has written for somebody
 * else's. And it asks about every change of the file, also where nobody has typed anything: see `Follower.beforeSave`.
 */
function oneAfterTheOther(context, follower) {
  const save = context.save.bind(context);
  const next = async () => {
    for (let tries = 1; await follower.beforeSave(); tries += 1) {
      try {
        return await save();
      } catch (error) {
        if (!isOvertaken(error) || tries === TRIES) {
          throw error;
        }
      }
    }
  };
  let last = Promise.resolve();
  context.save = () => (last = last.catch(() => undefined).then(next));
}

/** Have the server refuse to write over what this page has not seen: JupyterLab looks before it saves, and others may come between. */
function replaceOnlyWhatIsKnown(context, follower) {
  const options = context._createSaveOptions;
  if (options) {
    context._createSaveOptions = () => ({
      ...options.call(context),
      // It is asked for at the save: somebody may have decided meanwhile what is to be replaced.
      get base() {
        return follower.replaces;
      }
    });
  }
}

/**
 * A save that nobody answers is nothing to decide about: the page says that the connection is lost, and JupyterLab saves again
 * by itself once it is back. Its dialog would stand before the text that somebody types. A save that came too late is tried again.
 */
function askNothingNeedless(context, lab) {
  const handle = context._handleError;
  if (handle) {
    context._handleError = async (error, title) => {
      if (lab.isUnanswered(error)) {
        lab.state.check();
      } else if (!isOvertaken(error)) {
        await handle.call(context, error, title);
      }
    };
  }
}

export class Saved {
  constructor({ lab, panel, follower, resumer }) {
    this.lab = lab;
    this.panel = panel;
    oneAfterTheOther(panel.context, follower);
    replaceOnlyWhatIsKnown(panel.context, follower);
    askNothingNeedless(panel.context, lab);
    /** Executions that ended before this page's eyes, and are not known to be in the file. */
    this.ended = new Set();
    this.saving = [];
    this.opened = false;
    panel.sessionContext.iopubMessage.connect((_, msg) => {
      const parent = msg.parent_header || {};
      const last = msg.header.msg_type === 'status' && msg.content.execution_state === 'idle';
      // The last word of an execution: all of its outputs came before, over the same connection.
      if (last && parent.msg_type === 'execute_request' && resumer.follows(parent.msg_id)) {
        this.ended.add(parent.msg_id);
      }
    });
    panel.context.saveState.connect((_, state) => {
      if (state === 'started') {
        this.saving = [...this.ended];
      } else if (state === 'completed' && this.saving.length) {
        void this.tell(this.saving);
      }
    });
  }

  /** What the server gave with the notebook, when the page was opened, counts as heard. */
  has(cell, one) {
    if (this.opened) {
      return;
    }
    setTimeout(() => (this.opened = true));
    const over = one.state !== 'queued' && one.state !== 'running';
    if (over && !one.recent && !one.settled && one.count !== null && cell.model.executionCount === one.count) {
      this.ended.add(one.id);
    }
  }

  async tell(ids) {
    const path = this.panel.context.localPath;
    try {
      await this.lab.ask('guardian/saved', { path }, { ids });
      ids.forEach(id => this.ended.delete(id));
    } catch (error) {
      this.lab.warn(error);
      if (!(error.status >= 400 && error.status < 500)) {
        setTimeout(() => this.panel.isDisposed || this.tell(ids), AGAIN_MS);
      }
    }
  }
}
