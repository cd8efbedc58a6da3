// All that the page knows and is drawn from. Change it by `change`.

const MESSAGE_MS = 10_000;
const UNSENT = {
  draft: "",
  entries: [], // new todos, oldest first: {id, content, file, status: waiting|sending|failed, error}
  edits: {}, // todo id -> {text, isSaving, error}
  removed: [], // {id, isFile, name, isSent, isOld}
};

export const state = {
  view: "", // visitor, list or error
  mode: "signup", // what Enter does: signup or login
  user: null, // {id, username}
  visit: 0, // grows when another user comes
  todos: [], // newest first
  next: null,
  limit: 100, // rows on the page
  isLoading: false,
  filter: "", // all, open or done
  ticking: {}, // todo id -> a request about its tick runs
  uploads: {}, // todo id -> {file, status: sending|failed, part, stop, error}
  trouble: "", // offline or lost
  message: { text: "" }, // a quiet one is for screen readers alone
  ...UNSENT,
};

let follow, render, drawn;

export const drawWith = (...given) => ([follow, render] = given);

// Draws once for all that an event changes: await it to see.
export function change(changes) {
  Object.assign(state, changes);
  return (drawn ||= Promise.resolve().then(draw));
}

function draw() {
  follow();
  drawn = null;
  keep();
  render();
}

// Unsent things outlive page and session, for their user in this tab.
function keep() {
  const { draft, edits, entries, removed, user } = state;
  if (user) sessionStorage[user.id] = JSON.stringify({ draft, edits, entries: entries.map(({ file, ...entry }) => entry), removed });
}

let fading;

export function say(text, options) {
  change({ message: { text, ...options } });
  clearTimeout(fading);
  if (text && state.user) fading = setTimeout(say, MESSAGE_MS, "");
}

export function become(user) {
  keep();
  const unsent = { ...UNSENT, ...JSON.parse(sessionStorage[user?.id] || "{}") };
  for (const entry of unsent.entries) if (entry.status === "sending") Object.assign(entry, { status: "failed", error: "lost" });
  for (const edit of Object.values(unsent.edits)) edit.isSaving = false;
  for (const one of unsent.removed) Object.assign(one, { isSent: false, isOld: true });
  for (const { stop } of Object.values(state.uploads)) stop();
  if (user) localStorage.known = "yes";
  localStorage.user = user?.id || "";
  change({
    ...unsent, user, visit: state.visit + 1, view: user ? "list" : "visitor", mode: localStorage.known ? "login" : "signup",
    todos: [], next: null, isLoading: Boolean(user), ticking: {}, uploads: {},
  });
}
