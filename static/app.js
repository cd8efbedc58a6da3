"use strict";

const $ = (selector) => document.querySelector(selector);
const list = $("#todos");
const state = { user: null, filter: "", next: null, loading: false, visit: 0, added: 0 };

// Words ---------------------------------------------------------------------------------------------------------------

document.documentElement.lang = LANGUAGE === "zh" ? "zh-CN" : "en";
for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", word(element.dataset.label));
for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = word(element.dataset.placeholder);
document.title = word("title");

function say(text, isError = false) {
  const message = $("#message");
  message.textContent = text;
  message.classList.toggle("error", isError);
}

// Requests ------------------------------------------------------------------------------------------------------------

class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const KNOWN = { 401: "wrong", 409: "taken", 413: "tooLarge", 429: "tooMany" };

function explain(status, value) {
  if (status === 401 && state.user) return word("loggedOut");
  if (KNOWN[status]) return word(KNOWN[status]);
  if (status >= 502) return word("lost");
  return word("failed") + ((value && value.error) || status);
}

async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Failure(0, word(navigator.onLine ? "lost" : "offline"));
  }
  const value = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Failure(response.status, explain(response.status, value));
  return value;
}

const busy = new WeakSet();

// Run a handler, for each `place` one at a time: while a request runs, a second wish does nothing. What it throws is
// said in words, and nothing that was typed is touched.
function attempt(work, place = {}) {
  return async (event) => {
    if (event) event.preventDefault();
    if (busy.has(place)) return;
    busy.add(place);
    if (event) say("");
    try {
      await work(event);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.status === 401 && state.user) showVisitor(null);
      say(error.message, true);
    } finally {
      busy.delete(place);
    }
  };
}

// The second click of a double-click sends no form again, however fast the first was answered.
for (const form of [$("#account"), $("#add")]) {
  form.addEventListener("click", (event) => { if (event.detail > 1) event.preventDefault(); });
}

// Visitor -------------------------------------------------------------------------------------------------------------

function showVisitor(user) {
  state.user = user;
  state.visit += 1;
  $("#account").hidden = Boolean(user);
  $("#app").hidden = !user;
  $("#visitor").hidden = !user;
  $("#who").textContent = user ? user.username : "";
  if (user) localStorage.setItem("visited", "yes");
  else localStorage.removeItem("visited");
  list.replaceChildren();
  if (user) return load(true);
}

$("#account").addEventListener("submit", attempt(async (event) => {
  const form = event.target;
  const body = { username: form.username.value.trim(), password: form.password.value };
  if (!body.username || !body.password) throw new Failure(-1, word("fill"));
  const isNew = event.submitter && event.submitter.name === "signup";
  const { user } = await call("POST", isNew ? "/api/users" : "/api/session", body);
  form.password.value = "";
  say(word("loggedIn") + user.username);
  await showVisitor(user);
  $("#content").focus();
}));

$("#logout").addEventListener("click", attempt(async () => {
  await call("DELETE", "/api/session");
  showVisitor(null);
  say(word("loggedOut"));
  $("#username").focus();
}));

// The list ------------------------------------------------------------------------------------------------------------

function describe() {
  const empty = { "": "emptyAll", false: "emptyOpen", true: "emptyDone" }[state.filter];
  $("#state").textContent = state.loading ? word("loading") : list.children.length ? "" : word(empty);
  $("#more").hidden = !state.next || state.loading;
}

async function load(isFresh) {
  const { visit, added } = state;
  state.loading = true;
  if (isFresh) state.next = null;
  describe();
  const query = new URLSearchParams({ limit: 50 });
  if (state.filter) query.set("done", state.filter);
  if (!isFresh && state.next) query.set("before", state.next);
  try {
    const page = await call("GET", "/api/todos?" + query);
    if (visit !== state.visit) return; // somebody else, or another filter, meanwhile
    if (isFresh && added !== state.added) return load(true); // it may be from before a todo that is there by now
    if (isFresh) list.replaceChildren();
    list.append(...page.todos.map(row));
    state.next = page.next;
  } finally {
    if (visit === state.visit) {
      state.loading = false;
      describe();
    }
  }
}

$("#more").addEventListener("click", attempt(() => load(false)));
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && state.next && !state.loading) attempt(() => load(false))();
}, { rootMargin: "400px" }).observe($("#end"));

function chooseFilter(event) {
  const chosen = document.querySelector(`nav a[href="${location.hash || "#all"}"]`) || $("nav a");
  for (const link of document.querySelectorAll("nav a")) {
    if (link === chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (state.filter !== chosen.dataset.filter) {
    state.filter = chosen.dataset.filter;
    state.visit += 1;
    if (state.user) attempt(() => load(true))(event);
  }
}
window.addEventListener("hashchange", chooseFilter);

$("#add").addEventListener("submit", attempt(async (event) => {
  const field = event.target.content;
  const content = field.value;
  if (!content.trim()) throw new Failure(-1, word("blank"));
  field.value = ""; // for what is typed meanwhile
  let todo;
  try {
    todo = await call("POST", "/api/todos", { content });
  } catch (error) {
    field.value = field.value ? content + " " + field.value : content;
    throw error;
  }
  state.added += 1;
  if (state.filter !== "true") list.prepend(row(todo));
  describe();
  sayKept("added", content, todo);
  field.focus();
}));

// The server cuts what is too long.
function sayKept(name, content, todo) {
  const isCut = todo.content !== content && todo.content.endsWith(" ...");
  say(word(name) + (isCut ? " " + word("cut") : ""));
}

// One todo ------------------------------------------------------------------------------------------------------------

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function row(todo) {
  const item = make("li", { id: "todo-" + todo.id });
  item.classList.toggle("done", todo.done);
  const box = make("input", { type: "checkbox", checked: todo.done });
  const label = make("label", { className: "content" }, box, make("span", { textContent: todo.content }));
  const file = make("input", { type: "file", hidden: true, tabIndex: -1 });
  file.setAttribute("aria-hidden", "true");
  const edit = make("button", { type: "button", className: "quiet", textContent: word("edit") });
  const attach = make("button", { type: "button", className: "quiet", textContent: word("attach") });
  const remove = make("button", { type: "button", className: "quiet", textContent: word("remove") });
  const actions = make("p", { className: "actions" }, edit, attach, remove, file);
  item.append(label, actions);
  if (todo.attachment) item.append(preview(todo.attachment));

  box.addEventListener("change", attempt(async () => {
    try {
      const changed = await call("PATCH", "/api/todos/" + todo.id, { done: box.checked });
      say(word(changed.done ? "marked" : "unmarked"));
      replace(item, changed);
    } catch (error) {
      box.checked = todo.done;
      throw error;
    }
  }, item));
  box.addEventListener("click", (event) => { if (busy.has(item)) event.preventDefault(); }); // it stays as it is, too
  edit.addEventListener("click", attempt(() => openEditor(item, todo), item));
  remove.addEventListener("click", attempt(async () => {
    if (!remove.dataset.asked) {
      remove.dataset.asked = "true";
      remove.textContent = word("reallyRemove");
      remove.classList.add("danger");
      remove.addEventListener("blur", () => {
        delete remove.dataset.asked;
        remove.textContent = word("remove");
        remove.classList.remove("danger");
      }, { once: true });
      return;
    }
    await call("DELETE", "/api/todos/" + todo.id);
    const neighbour = item.nextElementSibling || item.previousElementSibling;
    item.remove();
    describe();
    say(word("removed"));
    (neighbour ? neighbour.querySelector("input") : $("#content")).focus();
  }, item));
  attach.addEventListener("click", () => file.click());
  file.addEventListener("change", attempt(() => upload(item, todo, file.files[0]), item));
  item.addEventListener("dragover", (event) => {
    event.preventDefault();
    item.classList.add("target");
  });
  item.addEventListener("dragleave", () => item.classList.remove("target"));
  item.addEventListener("drop", attempt(async (event) => {
    item.classList.remove("target");
    if (item.contains(label)) await upload(item, todo, event.dataTransfer.files[0]); // else its text is being edited
  }, item));
  return item;
}

function replace(item, todo) {
  const isShown = state.filter === "" || String(todo.done) === state.filter;
  if (!isShown) {
    item.remove();
    describe();
    return;
  }
  const fresh = row(todo);
  const hadFocus = item.contains(document.activeElement);
  item.replaceWith(fresh);
  if (hadFocus) fresh.querySelector("input").focus();
}

function openEditor(item, todo) {
  const field = make("input", { value: todo.content });
  field.setAttribute("aria-label", word("edit"));
  const cancel = make("button", { type: "button", textContent: word("cancel") });
  const form = make("form", { className: "row editor" }, field, make("button", { className: "primary", textContent: word("save") }), cancel);
  const close = attempt(() => replace(item, todo), item);
  item.replaceChildren(form);
  field.focus();
  field.select();
  cancel.addEventListener("click", close);
  field.addEventListener("keydown", (event) => { if (event.key === "Escape") close(event); });
  form.addEventListener("submit", attempt(async () => {
    if (!field.value.trim()) throw new Failure(-1, word("blank"));
    const content = field.value;
    const changed = await call("PATCH", "/api/todos/" + todo.id, { content });
    sayKept("saved", content, changed);
    replace(item, changed);
  }, item));
}

function preview(attachment) {
  const link = make("a", { href: attachment.url, className: "attachment", target: "_blank", rel: "noopener" });
  if (["image/png", "image/jpeg", "image/gif", "image/webp"].includes(attachment.mimeType)) {
    link.append(make("img", { src: attachment.url, alt: "", loading: "lazy", width: 64, height: 64 }));
  }
  link.append(make("span", { textContent: attachment.name }));
  return link;
}

// XMLHttpRequest, because fetch does not tell how far an upload is.
function upload(item, todo, file) {
  if (!file) return Promise.resolve();
  const bar = make("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", word("uploading", { name: file.name }));
  item.append(bar);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file);
    request.open("POST", "/api/todos/" + todo.id + "/attachment");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) bar.value = event.loaded / event.total; });
    request.addEventListener("load", () => {
      if (request.status !== 201) return reject(new Failure(request.status, explain(request.status, request.response)));
      replace(item, { ...todo, attachment: request.response });
      say(word("attached"));
      resolve();
    });
    request.addEventListener("error", () => reject(new Failure(0, word(navigator.onLine ? "lost" : "offline"))));
    request.addEventListener("loadend", () => bar.remove());
    request.send(body);
  });
}

// Begin ---------------------------------------------------------------------------------------------------------------

window.addEventListener("offline", () => say(word("offline"), true));
window.addEventListener("online", () => say(""));
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

chooseFilter();
attempt(async () => {
  // One round trip: who this is, what is on the list if it is somebody, and how the parts are.
  const [session, todos, status] = await Promise.allSettled([
    call("GET", "/api/session"), fetchFirst(), call("GET", "/api/status"),
  ]);
  // The footer comes with the rest: what appears moves nothing, what is pushed away does.
  if (status.status === "fulfilled") $("#status").textContent = word("statusLine", status.value);
  $("footer").hidden = false;
  if (session.status === "rejected") {
    $("#account").hidden = false;
    throw session.reason;
  }
  const { user } = session.value;
  if (!user || todos.status === "rejected") return showVisitor(user);
  state.user = user;
  $("#app").hidden = $("#visitor").hidden = false;
  $("#who").textContent = user.username;
  list.append(...todos.value.todos.map(row));
  state.next = todos.value.next;
  describe();
})();

// The list is asked for only where there may be a session; a stranger's first view stays free of refused requests.
function fetchFirst() {
  if (!localStorage.getItem("visited")) return Promise.reject(new Failure(-1, ""));
  const query = new URLSearchParams({ limit: 50 });
  if (state.filter) query.set("done", state.filter);
  return call("GET", "/api/todos?" + query);
}
