// Draws the state. Unchanged rows are left.
import { state } from "./state.js";
import { excess, isRemoved } from "./todos.js";
import { word } from "./words.js";

export const $ = (selector, inside = document) => inside.querySelector(selector);
export const $$ = (selector) => [...document.querySelectorAll(selector)];
// Found once: searching a long list takes longer than drawing it.
export const [list, status, links, sections] = [$("#todos"), $("[role=status]"), $$("nav a"), $$("[data-in]")];
const rows = new Map(); // id of a todo or an entry -> its <li>
const GROUP = 25; // rows in a <div>: the browser skips those out of sight

export const rowOf = (id) => document.getElementById(id);
const nextOf = (row) => row.nextSibling || row.parentNode.nextSibling?.firstChild;

export function render() {
  const { draft, entries, filter, isLoading, message, mode, next, removed, todos, trouble, user, view } = state;
  const { login, password, signup } = $("#account");
  document.body.dataset.view = view;
  for (const section of sections) section.hidden = section.dataset.in !== view;
  $("#who").textContent = user?.username;
  password.autocomplete = (mode === "signup" ? "new" : "current") + "-password";
  if (user) password.value = "";
  for (const button of [login, signup]) button.className = button.name === mode ? "main" : "";
  drawField($("#content"), draft);
  for (const link of links) link.ariaCurrent = link.hash === "#" + filter ? "true" : null;
  const left = entries.length + todos.filter(({ id, done }) => !done && !isRemoved(id, false)).length;
  $("#left").textContent = isLoading ? "" : word("left", { n: left + (next ? "+" : "") });
  document.title = (user && left ? `(${left}) ` : "") + word("title");
  keepFocus();
  $("#loading").hidden = !isLoading;
  $("#empty").hidden = isLoading || Boolean(list.firstChild);
  $("#empty p").textContent = word("empty " + filter);
  const text = trouble ? word(trouble) : message.text;
  if (status.textContent !== text) status.textContent = text;
  status.className = trouble || (text && message.isError) ? "error" : message.isQuiet || !text ? "unseen" : "";
  const last = removed.findLast(({ isSent, isOld }) => !isSent && !isOld);
  $("#undo").hidden = !last;
  $("#undo bdi").textContent = last?.name;
}

function drawField(field, text) {
  if (field.value !== text) field.value = text;
  field.rows = text.split("\n").length; // where field-sizing is unknown
  field.ariaInvalid = excess(text) > 0;
}

// What is being edited or uploaded stays in sight.
function isShown({ id, done, status }) {
  const isMeant = state.filter === "all" || status || done === (state.filter === "done");
  return !isRemoved(id, false) && (isMeant || id in state.edits || id in state.uploads);
}

function newRow(id) {
  rows.set(id, Object.assign(document.createElement("li"), { id, role: "listitem", parts: [] }));
  return rows.get(id);
}

function drawList() {
  const { edits, entries, todos, uploads } = state;
  const shown = new Map([...entries.toReversed(), ...todos].filter(isShown).slice(0, state.limit).map((item) => [item.id, item]));
  for (const [id, row] of rows) if (!shown.has(id)) row.remove(); // kept for another filter
  for (const group of [...list.children]) if (!group.firstChild) group.remove();
  let place = $("li", list);
  for (const [id, item] of shown) {
    const row = rows.get(id) || newRow(id);
    const { done, content, attachment, status } = item;
    const [edit, upload] = [edits[id], uploads[id]];
    const parts = [done, content, attachment, status, edit, upload, isRemoved(id, true)];
    const changed = parts.findLastIndex((part, index) => part !== row.parts[index]);
    if (changed > 0) drawRow(row, item, ...parts.slice(4));
    if (changed >= 0) drawTick(row, item);
    row.parts = parts;
    if (upload?.status === "sending") $("progress", row).value = upload.part;
    if (edit) drawField($("textarea", row), edit.text);
    if (row === place) place = nextOf(row);
    else if (place) place.before(row);
    else {
      if (!(list.lastChild?.childNodes.length < GROUP)) list.append(document.createElement("div"));
      list.lastChild.append(row);
    }
  }
}

// The focus stays in its row, or goes to the one in its place.
function keepFocus() {
  const active = document.activeElement;
  const row = list.contains(active) ? active.closest("li") : null;
  const next = row && nextOf(row);
  drawList();
  if (!row || active.isConnected) return;
  const near = row.isConnected ? row : next?.isConnected ? next : list.lastChild?.lastChild || $("#add");
  ($(`[data-do=${active.dataset.do}]`, near) || $("input, textarea", near)).focus();
}

// From a template. Buttons are named by what they act on.
function part(name, subject) {
  const copy = $("#" + name).content.cloneNode(true);
  for (const button of copy.querySelectorAll("button, progress")) {
    button.title = word(button.dataset.do);
    button.ariaLabel = `${button.title}: ${subject}`;
    if (!button.firstChild) button.textContent = button.title;
  }
  return copy;
}

function drawTick(row, { done, status }) {
  row.className = done ? "done" : status ? "entry" : "";
  $("input", row).checked = done;
}

function drawRow(row, { content, attachment, status, file, error }, edit, upload, isDetached) {
  row.replaceChildren(part("row", content));
  const box = $("input", row);
  const place = $(".file", row);
  $(".content", row).textContent = box.ariaLabel = content;
  box.disabled = status;
  if (edit) drawEditor(row, edit, content);
  if (edit || status) $(".actions", row).remove();
  if (status) drawOnItsWay(place, { file, status, error }, content);
  else if (upload) drawOnItsWay(place, upload, upload.file.name);
  else if (attachment && !isDetached) drawAttachment(place, attachment, content);
}

function drawEditor(row, { isSaving, error }, content) {
  $(".content", row).replaceWith(part("editor", content));
  $("textarea", row).ariaLabel = `${word("edit")}: ${content}`;
  $("textarea", row).readOnly = isSaving;
  $(".error", row).textContent = error ? word(error) : "";
}

function drawOnItsWay(place, { file, status, error, stop }, subject) {
  place.append(file ? file.name : "", status === "failed" || stop ? part(status, subject) : word("sending"));
  if (status === "failed") $(".error", place).textContent = word(error);
}

function drawAttachment(place, { name, url, size, mimeType }, content) {
  place.append(part("attachment", `${name} (${content})`));
  const link = $("a", place);
  link.href = url;
  link.ariaLabel = link.title = link.firstChild.textContent = name;
  if (!/^image.(png|jpeg|gif|webp)$/.test(mimeType)) return;
  const src = `${url}?${encodeURIComponent(name + size)}`; // or the browser would show the one before
  link.replaceChildren(Object.assign(new Image(32, 32), { loading: "lazy", alt: "", src }));
}
