// What is done with todos is shown at once, and mended if it fails.
import { call } from "./api.js";
import { attempt, refresh, written } from "./session.js";
import { change, say, state } from "./state.js";
import { word } from "./words.js";

export const MAX_CONTENT = 240; // characters; the server would cut what is longer
const UNDO_MS = 10_000;

const path = (id) => "/api/todos/" + id;
const without = (list, id) => list.filter((one) => one.id !== id);
const patched = (list, id, changes) => list.map((one) => (one.id === id ? { ...one, ...changes } : one));
export const find = (id) => state.todos.find((todo) => todo.id === id);
export const patchTodo = (id, changes) => patched(state.todos, id, changes);
export const drop = (map, id) => Object.fromEntries(Object.entries(map).filter(([key]) => key !== id));
export const put = (map, id, changes) => ({ ...map, [id]: { ...map[id], ...changes } });

export const excess = (text) => Math.max(0, [...text].length - MAX_CONTENT);

function isFine(text) {
  const n = excess(text);
  const wrong = n ? "long" : text.trim() ? "" : "blank";
  say(wrong && word(wrong, { n }), { isError: n > 0 });
  return !wrong;
}

// New ones

let isSending;

export function add(content, file) {
  if (!isFine(content)) return false;
  change({ entries: [...state.entries, { id: "entry" + Math.random(), content, file, status: "waiting" }] });
  return true;
}

const setEntry = (id, changes) => change({ entries: patched(state.entries, id, changes) });
export const retry = (id) => setEntry(id, { status: "waiting" });
export const discard = (id) => change({ entries: without(state.entries, id) });

// Send what waits, one by one; called after every change.
export async function send(attach) {
  if (isSending) return;
  isSending = true;
  for (;;) {
    const { entries, trouble, user } = state;
    const entry = user && !trouble && entries.find(({ status }) => status === "waiting");
    if (!entry) break;
    const { id, content, file } = entry;
    setEntry(id, { status: "sending" });
    await attempt(() => call("POST", "/api/todos", { content }), (todo) => {
      written({ todos: [todo, ...state.todos], entries: without(state.entries, id) }, "added");
      if (file) attach(todo.id, [file]);
    }, ({ status, message }) => {
      const isOthers = status === 401 || status === 409; // it waits for its user
      setEntry(id, { status: isOthers ? "waiting" : "failed", error: message });
    });
  }
  isSending = false;
}

// Ticking and editing

// While a request runs, clicks are shown; the last is sent after it.
export function tick(id, done) {
  const before = find(id).done;
  change({ todos: patchTodo(id, { done }), message: { text: "" } });
  if (!(id in state.ticking)) sendTick(id, before);
}

function sendTick(id, before) {
  const done = find(id)?.done ?? before;
  change({ ticking: done === before ? drop(state.ticking, id) : { ...state.ticking, [id]: true } });
  if (done !== before) attempt(() => call("PATCH", path(id), { done }), () => {
    written({}, done ? "marked" : "unmarked");
    sendTick(id, done);
  }, () => change({ todos: patchTodo(id, { done: before }), ticking: drop(state.ticking, id) }));
}

const setEdit = (id, changes) => change({ edits: put(state.edits, id, changes) });

export const edit = (id) => state.edits[id] || setEdit(id, { text: find(id).content });
export const cancel = (id) => state.edits[id].isSaving || change({ edits: drop(state.edits, id) });

export function save(id) {
  const { text, isSaving } = state.edits[id];
  if (text === find(id).content) return cancel(id);
  if (isSaving || !isFine(text)) return;
  setEdit(id, { isSaving: true, error: "" });
  attempt(
    () => call("PATCH", path(id), { content: text }),
    ({ content }) => written({ todos: patchTodo(id, { content }), edits: drop(state.edits, id) }, "saved"),
    ({ message }) => setEdit(id, { isSaving: false, error: message }),
  );
}

// Deleting, and undoing it

let timer;
export const isRemoved = (id, isFile) => state.removed.some((one) => one.id === id && one.isFile === isFile);

export function remove(id, isFile = false) {
  const { attachment, content } = find(id);
  const removed = [...state.removed, { id, isFile, name: isFile ? attachment.name : content }];
  change({ removed, message: { text: word("removed"), isQuiet: true } });
  clearTimeout(timer);
  timer = setTimeout(commit, UNDO_MS);
}

export const undo = () => change({ removed: state.removed.filter(({ isSent }) => isSent) });

// For good now, unless somebody is about to undo it.
export function commit(isUrgent) {
  clearTimeout(timer);
  if (!isUrgent && document.querySelector("#undo:hover, #undo:focus-within")) return (timer = setTimeout(commit, UNDO_MS));
  const going = state.removed.filter(({ isSent }) => !isSent);
  for (const one of going) one.isSent = true;
  change();
  return Promise.all(going.map(destroy));
}

function destroy(one) {
  const { id, isFile, isOld } = one;
  const todo = find(id);
  const forget = () => change({ removed: state.removed.filter((other) => other !== one) });
  return attempt(() => todo && (!isFile || todo.attachment) && call("DELETE", path(id) + (isFile ? "/attachment" : ""))
    .catch((error) => { if (!isOld || error.status !== 404) throw error; }), () => {
    written({ todos: isFile ? patchTodo(id, { attachment: null }) : without(state.todos, id) });
    forget();
  }, () => {
    forget();
    refresh();
  });
}
