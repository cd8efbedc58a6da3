// Draws the page from the state. Unchanged rows are left alone.
import { state } from "./state.js";
import { excess, isRemoved } from "./todos.js";
import { word } from "./words.js";

const $ = (selector, inside = document) => inside.querySelector(selector);
const list = $("#todos");
const rows = new Map(); // id of a todo or an entry -> its <li>

export const rowOf = (id) => (rows.get(id)?.isConnected ? rows.get(id) : null);

export function render() {
  const { draft, entries, filter, isLoading, message, mode, next, removed, todos, trouble, user, view } = state;
  const { login, password, signup } = $("#account");
  document.body.dataset.view = view;
  for (const section of document.querySelectorAll("[data-in]")) section.hidden = section.dataset.in !== view;
  $("#who").textContent = user ? user.username : "";
  password.autocomplete = mode === "signup" ? "new-password" : "current-password";
  if (user) password.value = "";
  for (const button of [login, signup]) button.className = button.name === mode ? "main" : "";
  drawField($("#content"), draft);
  for (const link of document.querySelectorAll("nav a")) link.ariaCurrent = link.hash === "#" + filter ? "true" : null;
  const left = entries.length + todos.filter(({ id, done }) => !done && !isRemoved(id, false)).length;
  $("#left").textContent = isLoading ? "" : word("left", { n: left + (next ? "+" : "") });
  document.title = (user && left ? `(${left}) ` : "") + word("title");
  keepFocus(drawList);
  $("#loading").hidden = !isLoading;
  $("#empty").hidden = isLoading || Boolean(list.firstChild);
  $("#empty p").textContent = word("empty " + filter);
  const status = $("[role=status]");
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
  const row = Object.assign(document.createElement("li"), { parts: [] });
  row.dataset.id = id;
  rows.set(id, row);
  return row;
}

function drawList() {
  const { edits, entries, todos, uploads } = state;
  const shown = new Map([...entries.toReversed(), ...todos].filter(isShown).slice(0, state.limit).map((item) => [item.id, item]));
  for (const [id, row] of rows) if (!shown.has(id)) row.remove(); // but kept for another filter
  if (!shown.size) rows.clear();
  let place = list.firstChild;
  for (const [id, item] of shown) {
    const row = rows.get(id) || newRow(id);
    const parts = [item, edits[id], uploads[id], isRemoved(id, true)];
    if (parts.some((part, index) => part !== row.parts[index])) drawRow(row, ...parts);
    row.parts = parts;
    if (uploads[id]?.status === "sending") $("progress", row).value = uploads[id].part;
    if (edits[id]) drawField($("textarea", row), edits[id].text);
    if (row === place) place = place.nextSibling;
    else list.insertBefore(row, place);
  }
}

// The focus stays in its row, or goes to the one in its place.
function keepFocus(draw) {
  const active = document.activeElement;
  const row = list.contains(active) ? active.closest("li") : null;
  const index = [...list.children].indexOf(row);
  draw();
  if (!row || active.isConnected) return;
  const near = row.isConnected ? row : list.children[index] || list.lastChild || $("#add");
  ($(`[data-do=${active.dataset.do}]`, near) || $("input, textarea", near)).focus();
}

// From a template. Buttons are called by what they act on, too.
function part(name, subject) {
  const copy = $("#" + name).content.cloneNode(true);
  for (const button of copy.querySelectorAll("button, progress")) {
    button.title = word(button.dataset.do);
    button.ariaLabel = `${button.title}: ${subject}`;
    if (!button.firstChild) button.textContent = button.title;
  }
  return copy;
}

function drawRow(row, { id, content, done, attachment, status, file, error }, edit, upload, isDetached) {
  row.replaceChildren(part("row", content));
  row.className = done ? "done" : status ? "entry" : "";
  const box = $("input", row);
  const place = $(".file", row);
  $(".content", row).textContent = box.ariaLabel = content;
  box.checked = done;
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
  const src = `${url}?${encodeURIComponent(name + size)}`; // else the browser shows the one before
  link.replaceChildren(Object.assign(new Image(32, 32), { loading: "lazy", alt: "", src }));
}
