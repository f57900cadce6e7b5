/*
 * News at the head of a notebook: what happened while nobody looked, and what was lost with a kernel and is back of it.
 */
import { cellsById, idOf, make, showCell } from './tools.js';

const MOST_LINKS = 12;
const MOST_HEIGHT = 160;
/** Whoever has the page open misses nothing in such a time. */
const SHORT_S = 120;
const CUT = 'cupola-cut';
const WORDS = { failed: 'failed', running: 'still running', done: 'finished' };

/** A line at the head of a notebook. */
class Bar {
  constructor(lab, panel, kind, label) {
    const { Widget } = lab.modules.widgets;
    this.node = make('div', { className: 'cupola-bar cupola-bar-' + kind });
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', label);
    this.inner = make('div', { className: 'cupola-bar-inner' });
    this.node.append(this.inner);
    this.widget = new Widget({ node: this.node });
    panel.contentHeader.addWidget(this.widget);
    this.shown = '';
    // Lumino asks for the least height of a line, not for that of its text.
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.inner);
  }

  fit() {
    const height = Math.min(this.inner.offsetHeight + 1, MOST_HEIGHT) + 'px';
    if (this.inner.offsetWidth > 0 && this.node.style.minHeight !== height) {
      this.node.style.minHeight = height;
      this.widget.parent && this.widget.parent.fit();
    }
  }

  /** Fill it, unless it shows the same already. */
  fill(what, ...parts) {
    const shown = JSON.stringify(what);
    if (shown === this.shown) {
      return;
    }
    this.shown = shown;
    this.inner.replaceChildren(...parts);
  }

  close() {
    this.observer.disconnect();
    this.widget.dispose();
  }
}

function button(text, act, accent) {
  const node = make('button', { type: 'button', className: 'cupola-button' + (accent ? ' cupola-accent' : ''), textContent: text });
  node.addEventListener('click', act);
  return node;
}

export class News {
  constructor({ lab, panel }) {
    this.lab = lab;
    this.panel = panel;
    this.bars = {};
    this.told = null;
    this.first = true;
    const { NotebookActions } = lab.modules.notebook;
    const run = (_, { notebook, cell }) => notebook === panel.content && this.unmark(cell);
    NotebookActions.executionScheduled.connect(run);
    panel.disposed.connect(() => NotebookActions.executionScheduled.disconnect(run));
  }

  /** Show what the server knows. */
  show(told) {
    this.told = told;
    const first = this.first;
    this.first = false;
    if (told.away && !first && !this.bars.away && told.away.seconds < SHORT_S) {
      // This page was there all the time and has shown what came.
      void this.read('away');
    } else {
      this.showAway(told.away);
    }
    if (!told.kernel || this.panel.sessionContext.kernelDisplayStatus !== 'connecting') {
      // Before a new kernel is there it is not known which variables are back.
      this.showLost(told.lost);
    }
  }

  bar(kind, label) {
    if (!this.bars[kind]) {
      this.bars[kind] = new Bar(this.lab, this.panel, kind, label);
    }
    return this.bars[kind];
  }

  close(kind) {
    if (this.bars[kind]) {
      this.bars[kind].close();
      delete this.bars[kind];
    }
  }

  /** Tell the server that news were read. */
  async read(what) {
    this.close(what);
    try {
      await this.lab.ask('guardian/seen', { path: this.panel.context.localPath, what }, {});
    } catch (error) {
      this.lab.warn(error);
    }
  }

  showAway(away) {
    if (!away) {
      this.close('away');
      return;
    }
    const there = cellsById(this.panel);
    const cells = away.cells.filter(one => there.has(one.cell));
    const links = make('span', { className: 'cupola-links' });
    for (const one of cells.slice(0, MOST_LINKS)) {
      const name = one.count ? `[${one.count}]` : '[*]';
      const link = button(name, () => void showCell(this.panel, one.cell));
      link.classList.add('cupola-link', 'cupola-' + one.state);
      link.setAttribute('aria-label', `Show cell ${name}, ${WORDS[one.state] || one.state}`);
      link.title = WORDS[one.state] || one.state;
      links.append(link);
    }
    if (cells.length > MOST_LINKS) {
      links.append(make('span', { textContent: `and ${cells.length - MOST_LINKS} more` }));
    }
    const words = make('span', { textContent: away.text, className: 'cupola-words' });
    words.setAttribute('role', 'status');
    this.bar('away', 'While you were away').fill([away, cells.length], words, links, button('Got it', () => void this.read('away')));
  }

  showLost(lost) {
    this.mark(lost);
    if (!lost) {
      this.close('lost');
      return;
    }
    const [head, ...rest] = lost.ended.split(': ');
    const ended = make('p', {}, make('strong', { textContent: head }), rest.length ? ': ' + rest.join(': ') : '');
    const words = make('div', { className: 'cupola-words' }, ended, make('p', { textContent: lost.back }));
    words.setAttribute('role', 'status');
    const again = button('Run again up to here', () => void this.runAgain(), true);
    again.title = 'Runs the cells from the first to the selected one; where none is selected, to the last that was run';
    const parts = [words, again];
    if (lost.restored) {
      parts.push(button('Details', () => void showVariables(this.lab, 'Variables that are back', lost.restored)));
    }
    this.bar('lost', 'The kernel was lost').fill(lost, ...parts, button('Close', () => void this.read('lost')));
  }

  /** Say at the cells themselves which were cut off. */
  mark(lost) {
    const cut = new Set(lost ? lost.cells : []);
    const there = lost ? this.told.executions.filter(one => one.kernel === lost.kernel) : [];
    const ended = new Map(there.map(one => [one.cell, one.id]));
    for (const cell of this.panel.content.widgets) {
      const { id, executionState } = cell.model;
      // A cell that is executed again is not marked; one that is only told again what it had put out is.
      if (cut.has(id) && (executionState !== 'running' || idOf(cell.outputArea.future) === ended.get(id))) {
        cell.node.classList.add(CUT);
        const text = lost.waited.includes(id) ? 'Did not run: the kernel ended' : 'Ended with the kernel';
        cell.node.dataset.cupolaCut = `${text} at ${lost.clock}.`;
      } else {
        this.unmark(cell);
      }
    }
  }

  unmark(cell) {
    cell.node.classList.remove(CUT);
    delete cell.node.dataset.cupolaCut;
  }

  /** Run from the first cell to the selected one, or where that was not run before, to the last that was. */
  async runAgain() {
    const { NotebookActions } = this.lab.modules.notebook;
    const { content, sessionContext } = this.panel;
    const ran = new Set(this.told.executions.map(one => one.cell));
    const wasRun = cell => cell.model.type === 'code' && (cell.model.executionCount || ran.has(cell.model.id));
    const last = content.widgets.findLastIndex(wasRun);
    const here = content.activeCellIndex;
    // The first cell is selected where nobody has chosen one.
    const end = here > 0 && here < last ? here : last;
    if (end >= 0) {
      await NotebookActions.runCells(content, content.widgets.slice(0, end + 1), sessionContext);
    }
  }
}

/** Names of variables, and why some are missing. */
export function listVariables(said) {
  const node = make('div', { className: 'cupola-variables', tabIndex: 0 });
  node.append(make('p', { textContent: said.text }));
  if (said.variables.length) {
    node.append(make('h3', { textContent: 'Kept' }), make('p', { textContent: said.variables.join(', ') }));
  }
  if (said.modules.length) {
    node.append(make('h3', { textContent: 'Imported again' }), make('p', { textContent: said.modules.join(', ') }));
  }
  if (said.left.length) {
    const rows = said.left.map(one => make('tr', {}, make('td', { textContent: one.name }), make('td', { textContent: one.type }), make('td', { textContent: one.why })));
    const heads = ['Name', 'Type', 'Why'].map(word => make('th', { textContent: word, scope: 'col' }));
    const table = make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows));
    node.append(make('h3', { textContent: 'Not kept' }), table);
  }
  return node;
}

export async function showVariables(lab, title, said, ...more) {
  const { apputils, widgets } = lab.modules;
  const body = new widgets.Widget({ node: listVariables(said) });
  return apputils.showDialog({ title, body, buttons: [...more, apputils.Dialog.okButton({ label: 'Close' })] });
}

/** On opening the Lab: in which other notebooks something happened. */
export async function tellOfOthers(lab, tracker) {
  let told;
  try {
    told = await lab.guardian();
  } catch {
    return;
  }
  const open = new Set();
  tracker.forEach(panel => open.add(panel.context.localPath));
  for (const one of (told.away || []).filter(one => !open.has(one.path)).slice(0, 5)) {
    const { Notification } = lab.modules.apputils;
    const show = { label: 'Open', callback: () => void lab.app.commands.execute('docmanager:open', { path: one.path }) };
    Notification.info(`${one.path}: ${one.text}`, { autoClose: false, actions: [show] });
  }
}
