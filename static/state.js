// All that the page knows. Who changes it calls `change`, and the page is drawn from it.

const MESSAGE_MS = 10_000;
const UNSENT = {
  draft: "",
  entries: [], // new todos, oldest first: {id, content, file, status: waiting|sending|failed, error}
  edits: {}, // todo id -> {text, isSaving, error}
  removed: [], // todos and attachments: {id, isFile, name, isSent, isOld}
};

export const state = {
  view: "", // visitor, list or error
  mode: "signup", // what Enter does for a visitor: signup or login
  user: null, // {id, username}
  visit: 0, // grows when another user comes
  todos: [], // newest first
  next: null,
  limit: 100, // rows on the page
  isLoading: false,
  filter: "", // all, open or done
  ticking: {}, // todo id -> whether a request about its tick runs
  uploads: {}, // todo id -> {file, status: sending|failed, part, stop, error}
  trouble: "", // offline or lost
  message: { text: "" }, // a quiet one is for screen readers alone
  ...UNSENT,
};

let draw;

export function drawWith(render) {
  draw = render;
}

export function change(changes) {
  Object.assign(state, changes);
  const { draft, edits, entries, removed, user } = state;
  // Unsent things outlive the page and the session, in this tab.
  if (user) sessionStorage.setItem(user.id, JSON.stringify({ draft, edits, entries: entries.map(({ file, ...entry }) => entry), removed }));
  draw();
}

let fading;

export function say(text, options) {
  change({ message: { text, ...options } });
  clearTimeout(fading);
  if (text && state.user) fading = setTimeout(say, MESSAGE_MS, "");
}

export function become(user) {
  const unsent = { ...UNSENT, ...JSON.parse(sessionStorage.getItem(user?.id) || "{}") };
  for (const entry of unsent.entries) if (entry.status === "sending") Object.assign(entry, { status: "failed", error: "lost" });
  for (const edit of Object.values(unsent.edits)) edit.isSaving = false;
  for (const one of unsent.removed) Object.assign(one, { isSent: false, isOld: true });
  for (const { stop } of Object.values(state.uploads)) stop();
  if (user) localStorage.setItem("known", "yes");
  localStorage.setItem("user", user ? user.id : "");
  change({
    ...unsent, user, visit: state.visit + 1, view: user ? "list" : "visitor", mode: localStorage.getItem("known") ? "login" : "signup",
    todos: [], next: null, isLoading: Boolean(user), ticking: {}, uploads: {},
  });
}
