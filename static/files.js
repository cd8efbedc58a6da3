// Attachments: a todo holds one file, others become todos of their own.
import { upload } from "./api.js";
import { attempt, refresh, written } from "./session.js";
import { change, state } from "./state.js";
import { MAX_CONTENT, add, drop, find, isRemoved, patchTodo, put } from "./todos.js";

export const addFile = (file, content) => add(content?.trim() ? content : [...file.name].slice(0, MAX_CONTENT).join(""), file);
export const dropUpload = (id) => change({ uploads: drop(state.uploads, id) });

export function attach(id, files) {
  const hasOne = id in state.uploads || (find(id).attachment && !isRemoved(id, true));
  if (!hasOne) sendFile(id, files.shift());
  for (const file of files) addFile(file);
}

export function sendFile(id, file = state.uploads[id].file) {
  const path = `/api/todos/${id}/attachment`;
  const begun = (stop) => change({
    uploads: put(state.uploads, id, { file, status: "sending", part: 0, stop }),
    removed: state.removed.filter((one) => one.id !== id || !one.isFile),
  });
  const progress = (part) => {
    if (state.uploads[id]) state.uploads[id].part = part; // in place
    change();
  };
  return attempt(() => upload(path, file, begun, progress), (attachment) => {
    dropUpload(id);
    if (attachment) written({ todos: patchTodo(id, { attachment }) }, "attached");
    else refresh(); // it may have arrived
  }, ({ message }) => change({ uploads: put(state.uploads, id, { status: "failed", error: message }) }));
}
