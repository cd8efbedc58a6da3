"use strict";

const $ = (selector) => document.querySelector(selector);
let next = null;

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, options);
  const value = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

function say(text) { $("#message").textContent = text; }

function attempt(work) {
  return async (event) => {
    event.preventDefault();
    say("");
    try { await work(event); } catch (error) { say(error.message); }
  };
}

function show(user) {
  $("#account").hidden = Boolean(user);
  $("#app").hidden = !user;
  $("#who").textContent = user ? user.username : "";
  $("#todos").replaceChildren();
  if (user) return load();
}

async function load(before) {
  const page = await call("GET", "/api/todos" + (before ? "?before=" + encodeURIComponent(before) : ""));
  $("#todos").append(...page.todos.map(row));
  next = page.next;
  $("#more").hidden = !next;
}

function row(todo) {
  const item = document.createElement("li");
  const box = document.createElement("input");
  const label = document.createElement("label");
  const text = document.createElement("span");
  const remove = document.createElement("button");
  const attach = document.createElement("button");
  const file = document.createElement("input");
  item.classList.toggle("done", todo.done);
  box.type = "checkbox";
  box.checked = todo.done;
  text.textContent = todo.content;
  remove.textContent = "Delete";
  attach.textContent = "Attach";
  file.type = "file";
  file.hidden = true;
  box.addEventListener("change", attempt(async () => {
    item.replaceWith(row(await call("PATCH", "/api/todos/" + todo.id, { done: box.checked })));
  }));
  remove.addEventListener("click", attempt(async () => {
    await call("DELETE", "/api/todos/" + todo.id);
    item.remove();
  }));
  attach.addEventListener("click", () => file.click());
  file.addEventListener("change", attempt(async () => {
    const body = new FormData();
    body.append("file", file.files[0]);
    const attachment = await call("POST", "/api/todos/" + todo.id + "/attachment", body);
    item.replaceWith(row({ ...todo, attachment }));
  }));
  label.append(box, text);
  item.append(label);
  if (todo.attachment) {
    const link = document.createElement("a");
    link.href = todo.attachment.url;
    link.textContent = todo.attachment.name;
    item.append(link);
  }
  item.append(attach, file, remove);
  return item;
}

$("#account").addEventListener("submit", attempt(async (event) => {
  const form = event.target;
  const body = { username: form.username.value, password: form.password.value };
  const path = event.submitter && event.submitter.name === "signup" ? "/api/users" : "/api/session";
  const { user } = await call("POST", path, body);
  form.reset();
  await show(user);
}));
$("#logout").addEventListener("click", attempt(async () => { await call("DELETE", "/api/session"); show(null); }));
$("#add").addEventListener("submit", attempt(async (event) => {
  const form = event.target;
  const todo = await call("POST", "/api/todos", { content: form.content.value });
  form.reset();
  $("#todos").prepend(row(todo));
}));
$("#more").addEventListener("click", attempt(() => load(next)));
call("GET", "/api/session").then(({ user }) => show(user)).catch((error) => say(error.message));
