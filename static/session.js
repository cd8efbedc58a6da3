// Who is there, and their list as the server has it.
import { Failure, call } from "./api.js";
import { become, change, say, state } from "./state.js";
import { drop, find } from "./todos.js";
import { word } from "./words.js";

const PAGE = 100;
const UNASKED = 1000;
const RECONNECT_MS = 5000;
const MIN_PASSWORD = 6;

let isEntering;
let reconnecting;
let writes = 0; // a list that was asked for before the last one is older
let refreshes = 0;

// Ask, then go on, or mend it after a failure: neither for another user.
export async function attempt(ask, done, mend) {
  const { user, visit } = state;
  try {
    const answer = await ask();
    if (visit === state.visit) await done(answer);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (visit !== state.visit) return;
    mend?.(error);
    if (error.message === "lost" || error.message === "offline") lose(error.message);
    if (user && error.status === 401) become(null);
    if (user && error.status === 409) await meet();
    else say(word(user && !state.user ? "loggedOut" : error.message), { isError: true });
  }
}

// Another tab may have changed who is there.
export function meet() {
  return attempt(() => call("GET", "/api/session"), ({ user }) => {
    const { trouble, user: before, view } = state;
    if (user?.id !== before?.id || view !== (user ? "list" : "visitor")) {
      become(user);
      if (before) say(word(user ? "other" : "loggedOut", { name: user?.username }));
    }
    if (user) return refresh();
    if (trouble) calm();
  }, () => change({ view: state.view || "error" }));
}

const calm = () => change({ trouble: "", message: { text: "" } });

export function lose(trouble) {
  change({ trouble });
  clearTimeout(reconnecting);
  reconnecting = setTimeout(meet, RECONNECT_MS);
}

export async function enter(mode, username, password) {
  const wrong = !username || !password ? "fill" : mode === "signup" && password.length < MIN_PASSWORD ? "rule" : "";
  if (isEntering) return;
  change({ mode });
  say(wrong && word(wrong), { isError: true });
  if (wrong) return;
  isEntering = true;
  await attempt(() => call("POST", mode === "signup" ? "/api/users" : "/api/session", { username, password }), ({ user }) => {
    become(user);
    say(word("loggedIn", { name: user.username }), { isQuiet: true });
    refresh();
  });
  isEntering = false;
}

export const leave = () => attempt(() => call("DELETE", "/api/session"), () => {
  become(null);
  say(word("loggedOut"));
});

// Fetch page by page; shown once it is no shorter than what is shown.
export function refresh() {
  const turn = ++refreshes;
  const seen = writes;
  const fetchFrom = (todos, next) => attempt(() => call("GET", `/api/todos?limit=${PAGE}&before=${next}`), (page) => {
    if (turn !== refreshes) return;
    if (seen !== writes) return refresh();
    const all = [...todos, ...page.todos];
    if (!page.next || all.length >= state.todos.length) show(all, page.next);
    if (page.next && all.length < Math.max(UNASKED, state.limit)) return fetchFrom(all, page.next);
    if (state.trouble) calm();
  }, () => change({ isLoading: false, view: state.isLoading ? "error" : state.view }));
  return fetchFrom([], "");
}

// Unchanged todos stay the same objects: their rows are not drawn again.
function show(todos, next) {
  const before = new Map(state.todos.map((todo) => [todo.id, todo]));
  const merged = todos.map((todo) => {
    const old = before.get(todo.id);
    if (todo.id in state.ticking) todo = { ...todo, done: old.done };
    return JSON.stringify(old) === JSON.stringify(todo) ? old : todo;
  });
  // What was lost may have arrived.
  const isNew = ({ content, error, file }) =>
    error !== "lost" || file || !todos.some(({ id, done, content: text }) => !before.has(id) && !done && text === content);
  change({ todos: merged, next, isLoading: false, entries: state.entries.filter(isNew) });
  // An edit outlives its todo.
  if (!next) for (const [id, { text }] of Object.entries(state.edits)) {
    if (find(id)) continue;
    change({ edits: drop(state.edits, id), entries: [...state.entries, { id, content: text, status: "failed", error: "gone" }] });
  }
}

// The server took a write: other tabs hear of it.
export function written(changes, text) {
  writes += 1;
  change(text ? { ...changes, message: { text: word(text), isQuiet: true } } : changes);
  localStorage.written = state.user.id + writes + Date.now();
}
