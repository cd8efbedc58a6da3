// Begins here: hands on what a visitor does.
import { addFile, attach, dropUpload, sendFile } from "./files.js";
import { enter, leave, lose, meet, refresh } from "./session.js";
import { change, drawWith, state } from "./state.js";
import { add, cancel, commit, discard, edit, find, remove, retry, save, send, tick, undo } from "./todos.js";
import { nextOf, previousOf, render, rowOf } from "./view.js";
import { translate } from "./words.js";

const $ = (selector) => document.querySelector(selector);
const on = (target, name, act, isFirst) => target.addEventListener(name, act, isFirst);
const account = $("#account");
const list = $("#todos");
const field = $("#content");
const idOf = (element) => element.closest("li")?.dataset.id;

async function go(mode) {
  const { username, password } = account;
  await enter(mode, username.value.trim(), password.value);
  (state.user ? field : username.value.trim() ? password : username).focus();
}

on($("#logout"), "click", async () => {
  await commit(true);
  await leave();
  if (!state.user) account.username.focus();
});

on(document, "submit", (event) => {
  const { submitter, target } = event;
  event.preventDefault();
  if (target === account) go(submitter.name);
  else if (target.id !== "add") save(idOf(target));
  else if (add(state.draft)) change({ draft: "" });
});
// The second click of a double click may hit another button.
on(document, "click", (event) => {
  if (event.detail < 2 || !event.target.closest("button")) return;
  event.preventDefault();
  event.stopPropagation();
}, true);
on(document, "input", ({ target }) => {
  if (target === field) change({ draft: field.value });
  else if (target.matches("#todos textarea")) {
    state.edits[idOf(target)].text = target.value; // in place: the row is not drawn again
    change();
  }
});

async function openEditor(id) {
  await edit(id);
  const text = rowOf(id).querySelector("textarea");
  text.focus();
  text.select();
}

const ACTIONS = {
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
    list.dataset.chosen = id;
    $("#file").value = "";
    $("#file").click();
  },
};

on(document, "click", ({ target }) => ACTIONS[target.closest("button")?.dataset.do]?.(idOf(target)));
on(list, "change", ({ target }) => { if (target.type === "checkbox") tick(idOf(target), target.checked); });
on(list, "dblclick", ({ target }) => { if (target.matches(".content") && find(idOf(target))) openEditor(idOf(target)); });

// Keys. While an input method composes, they are its own.
on(document, "keydown", (event) => {
  const { key, target } = event;
  const id = idOf(target);
  const isBox = target.type === "checkbox";
  const isText = !isBox && target.matches("input, textarea");
  const way = !isText && id && { ArrowDown: nextOf, ArrowUp: previousOf }[key];
  if (event.isComposing) return;
  if (isText && key === "Enter" && !event.shiftKey) target.form.requestSubmit(target.form[state.mode]);
  else if (key === "Escape" && id in state.edits) cancel(id);
  else if (way) (way(rowOf(id))?.querySelector(`[data-do=${target.dataset.do}]`) || target).focus();
  else if (isBox && key === "Enter") openEditor(id);
  else if (isBox && key === "Delete") remove(id);
  else if (!isText && key === "z" && (event.ctrlKey || event.metaKey)) $("#undo:not([hidden]) button")?.click();
  else return;
  event.preventDefault();
});

// Files: for the row that they come upon, else a todo each

on($("#file"), "change", ({ target }) => { if (find(list.dataset.chosen)) attach(list.dataset.chosen, [...target.files]); });

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
  if (list.querySelectorAll("li").length < state.limit || list.getBoundingClientRect().bottom > 3 * innerHeight) return;
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
