// Begins here: hands on what a visitor does.
import { addFile, attach, dropUpload, sendFile } from "./files.js";
import { enter, leave, lose, meet, refresh } from "./session.js";
import { change, drawWith, state } from "./state.js";
import { add, cancel, commit, discard, edit, find, remove, retry, save, send, tick, undo } from "./todos.js";
import { $, $$, list, render, rowOf } from "./view.js";
import { translate } from "./words.js";

const on = (target, name, act) => target.addEventListener(name, act);
const account = $("#account");
const field = $("#content");
const idOf = (element) => element.closest("li")?.id;

async function go(mode) {
  const { username, password } = account;
  await enter(mode, username.value.trim(), password.value);
  (state.user ? field : username.value.trim() ? password : username).focus();
}

on(document, "submit", (event) => {
  const { submitter, target } = event;
  event.preventDefault();
  if (target === account) go(submitter.name);
  else if (target.id !== "add") save(idOf(target));
  else if (add(state.draft)) change({ draft: "" });
});
on(document, "input", ({ target }) => {
  if (target === field) change({ draft: field.value });
  else if (target.matches("#todos textarea")) {
    state.edits[idOf(target)].text = target.value; // in place: the row is not drawn again
    change();
  }
});

async function openEditor(id) {
  await edit(id);
  const text = $("textarea", rowOf(id));
  text.focus();
  text.select();
}

const ACTIONS = {
  logOut: async () => {
    await commit(true);
    await leave();
    if (!state.user) account.username.focus();
  },
  cancel, meet, remove, edit: openEditor,
  detach: (id) => remove(id, true),
  retry: (id) => (find(id) ? sendFile(id) : retry(id)),
  discard: (id) => (find(id) ? dropUpload(id) : discard(id)),
  stop: (id) => state.uploads[id].stop(),
  undo: async () => {
    const { id } = state.removed.at(-1);
    await undo();
    (rowOf(id)?.querySelector("input") || field).focus();
  },
  attach: (id) => {
    const picker = $("#file");
    picker.value = "";
    picker.onchange = () => { if (find(id)) attach(id, [...picker.files]); };
    picker.click();
  },
};

on(document, "click", (event) => {
  const button = event.target.closest("button");
  // A double click's second click may hit another one.
  if (button && event.detail > 1) event.preventDefault();
  else ACTIONS[button?.dataset.do]?.(idOf(button));
});
on(list, "change", ({ target }) => { if (target.type === "checkbox") tick(idOf(target), target.checked); });
on(list, "dblclick", ({ target }) => { if (target.matches(".content") && find(idOf(target))) openEditor(idOf(target)); });

// Keys. While an input method composes, they are its own.
on(document, "keydown", (event) => {
  const { key, target } = event;
  const id = idOf(target);
  const isBox = target.type === "checkbox";
  const isText = !isBox && target.matches("input, textarea");
  const step = !isText && id && { ArrowDown: 1, ArrowUp: -1 }[key];
  if (event.isComposing) return;
  if (isText && key === "Enter" && !event.shiftKey) target.form.requestSubmit(target.form[state.mode]);
  else if (key === "Escape" && id in state.edits) cancel(id);
  else if (step) ($$("li")[$$("li").indexOf(rowOf(id)) + step]?.querySelector(`[data-do=${target.dataset.do}]`) || target).focus();
  else if (isBox && key === "Enter") openEditor(id);
  else if (isBox && key === "Delete") remove(id);
  else if (!isText && key === "z" && (event.ctrlKey || event.metaKey)) $("#undo:not([hidden]) button")?.click();
  else return;
  event.preventDefault();
});

// Files: for the row they come upon, else a todo each
function take({ files }, event) {
  if (!files.length || state.view !== "list") return;
  event.preventDefault();
  const id = idOf(event.target);
  if (find(id)) attach(id, [...files]);
  else [...files].forEach((file, index) => {
    const draft = index === 0 && event.target === field ? state.draft : "";
    if (addFile(file, draft) && draft) change({ draft: "" });
  });
}

on(document, "paste", (event) => take(event.clipboardData, event));
on(document, "dragover", (event) => event.preventDefault());
on(document, "drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer, event);
});

const chooseFilter = () => change({ limit: 100, filter: { "#open": "open", "#done": "done" }[location.hash] || "all" });

on(window, "hashchange", chooseFilter);
on(window, "scroll", () => {
  if (list.getBoundingClientRect().bottom > 3 * innerHeight || $$("li").length < state.limit) return;
  change({ limit: state.limit + 100 });
  if (state.next) refresh();
});
on(window, "offline", () => lose("offline"));
on(window, "online", meet);
on(window, "storage", ({ key }) => {
  if (key === "user") meet();
  if (key === "written" && state.user && !document.hidden) refresh();
});
on(document, "visibilitychange", () => { if (!document.hidden) meet(); });
on(window, "pagehide", () => commit(true));
on(window, "beforeunload", (event) => {
  if (state.entries.length + Object.keys(state.uploads).length) event.preventDefault();
});

translate();
drawWith(() => {
  send(attach);
  if (!state.isLoading && state.removed.some(({ isOld, isSent }) => isOld && !isSent)) commit(true);
}, render);
chooseFilter();
meet();
