"use strict";

// Every word that the page says, in the languages that it speaks; the browser's language decides.
const WORDS = {
  en: {
    title: "Todos", welcome: "A list of your own. Sign up with any name, or log in.",
    username: "Username", password: "Password", logIn: "Log in", signUp: "Sign up", logOut: "Log out",
    newTodo: "New todo", add: "Add", all: "All", open: "Open", done: "Done", todos: "Todos", more: "Show more",
    edit: "Edit", save: "Save", cancel: "Cancel", remove: "Delete", reallyRemove: "Delete for good?", attach: "Attach",
    loading: "Loading your todos …", emptyAll: "Nothing here yet. What is to be done?",
    emptyOpen: "Nothing is open. Well done!", emptyDone: "Nothing is done yet.",
    offline: "You are offline. What you typed is kept.", failed: "That did not work: ",
    lost: "The server cannot be reached. What you typed is kept.",
    added: "Added.", removed: "Deleted.", saved: "Saved.", attached: "Attached.", loggedIn: "Welcome, ",
    loggedOut: "You are logged out.", marked: "Marked as done.", unmarked: "Open again.",
    fill: "Please fill in both fields.", blank: "Please write what is to be done.", cut: "It was too long: its end was cut off.",
    statusLine: "environment: {env} · storage: {storage} · cache: {cache}",
    wrong: "The username or the password is wrong.", taken: "This username is taken.",
    tooMany: "Too many tries. Please wait a while.", tooLarge: "This file is too large.", uploading: "Uploading {name}",
  },
  zh: {
    title: "待办", welcome: "属于你自己的清单。起个名字注册，或者直接登录。",
    username: "用户名", password: "密码", logIn: "登录", signUp: "注册", logOut: "退出登录",
    newTodo: "新的待办", add: "添加", all: "全部", open: "未完成", done: "已完成", todos: "待办列表", more: "显示更多",
    edit: "编辑", save: "保存", cancel: "取消", remove: "删除", reallyRemove: "确定删除？", attach: "添加附件",
    loading: "正在加载……", emptyAll: "这里还空着。有什么要做的吗？",
    emptyOpen: "全都做完了，真棒！", emptyDone: "还没有完成的事项。",
    offline: "网络已断开，你输入的内容不会丢。", failed: "操作没有成功：",
    lost: "暂时连不上服务器，你输入的内容不会丢。",
    added: "已添加。", removed: "已删除。", saved: "已保存。", attached: "附件已上传。", loggedIn: "欢迎，",
    loggedOut: "已退出登录。", marked: "已标记为完成。", unmarked: "已重新打开。",
    fill: "请填写用户名和密码。", blank: "请写下要做的事。", cut: "内容太长，末尾已截掉。",
    statusLine: "环境：{env} · 存储：{storage} · 缓存：{cache}",
    wrong: "用户名或密码不对。", taken: "这个用户名已经有人用了。",
    tooMany: "尝试次数太多，请稍后再试。", tooLarge: "文件太大了。", uploading: "正在上传 {name}",
  },
};
const LANGUAGE = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";

function word(name, values = {}) {
  return WORDS[LANGUAGE][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}
