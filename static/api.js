// A Failure's message is a word of ours: the server's are English.
import { state } from "./state.js";

const WORDS = { 401: "wrong", 404: "gone", 409: "taken", 413: "tooLarge", 429: "tooMany" };

export class Failure extends Error {
  constructor(status) {
    super(WORDS[status] || (status && status < 501 ? "broken" : navigator.onLine ? "lost" : "offline"));
    this.status = status;
  }
}

// X-User: in another tab somebody else may have logged in.
export async function call(method, path, body) {
  try {
    const response = await fetch(path, {
      method, headers: state.user ? { "X-User": state.user.id } : {}, body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
      keepalive: method !== "GET", // sent even when the page is left
    });
    if (!response.ok) throw new Failure(response.status);
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(0);
  }
}

// fetch tells no progress. `begun` gets what stops it; the answer is then null.
export function upload(path, file, begun, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file);
    request.open("POST", path);
    request.setRequestHeader("X-User", state.user.id);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => progress(loaded / total);
    request.onload = () => (request.status === 201 ? resolve(request.response) : reject(new Failure(request.status)));
    request.onerror = () => reject(new Failure(0));
    request.onabort = () => resolve(null);
    begun(() => request.abort());
    request.send(body);
  });
}
