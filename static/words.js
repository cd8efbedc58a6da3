// Every word in English and Chinese.
const WORDS = {
  title: ["Todos", "待办"],
  welcome: ["A todo list of your own: write it down, tick it off.", "属于你自己的待办清单：写下来，做完就打勾。"],
  username: ["Username", "用户名"],
  password: ["Password", "密码"],
  rule: ["A new password has at least 6 characters.", "新密码至少 6 个字符。"],
  logIn: ["Log in", "登录"],
  signUp: ["Sign up", "注册"],
  logOut: ["Log out", "退出登录"],
  old: ["I have a list here", "我已有清单"],
  new: ["I am new here", "我是新来的"],
  newTodo: ["New todo", "新的待办"],
  add: ["Add", "添加"],
  all: ["All", "全部"],
  open: ["Open", "未完成"],
  done: ["Done", "已完成"],
  left: ["{n} left", "还剩 {n} 项"],
  edit: ["Edit", "编辑"],
  save: ["Save", "保存"],
  cancel: ["Cancel", "取消"],
  attach: ["Attach", "添加附件"],
  detach: ["Remove", "移除"],
  remove: ["Delete", "删除"],
  undo: ["Undo", "撤销"],
  retry: ["Try again", "重试"],
  discard: ["Discard", "丢弃"],
  stop: ["Cancel upload", "取消上传"],
  loading: ["Loading …", "正在加载……"],
  "empty all": ["Nothing here yet. What is to be done?", "这里还空着。有什么要做的吗？"],
  "empty open": ["Nothing is open. Well done!", "全都做完了，真棒！"],
  "empty done": ["Nothing is done yet.", "还没有完成的事项。"],
  sending: ["saving …", "正在保存……"],
  loggedIn: ["Welcome, {name}", "欢迎，{name}"],
  loggedOut: ["You are logged out.", "已退出登录。"],
  other: ["{name} is logged in now.", "现在登录的是 {name}。"],
  added: ["Added.", "已添加。"],
  removed: ["Deleted.", "已删除。"],
  saved: ["Saved.", "已保存。"],
  attached: ["Attached.", "附件已上传。"],
  marked: ["Marked as done.", "已标记为完成。"],
  unmarked: ["Open again.", "已重新打开。"],
  fill: ["Please fill in both fields.", "请填写用户名和密码。"],
  blank: ["Please write what is to be done.", "请写下要做的事。"],
  long: ["Too long by {n}: please shorten it.", "超出 {n} 个字符，请缩短一些。"],
  wrong: ["Username or password is wrong. No account yet? Sign up.", "用户名或密码不对。没有这个账号？请注册。"],
  taken: ["This username is taken. Is it yours? Log in.", "这个用户名已经有人用了。是你的？请登录。"],
  tooMany: ["Too many tries. Please wait.", "尝试次数太多，请稍后再试。"],
  tooLarge: ["This file is too large.", "文件太大了。"],
  gone: ["This todo was deleted elsewhere.", "这个待办已在别处删除。"],
  broken: ["That failed.", "操作没有成功。"],
  offline: ["You are offline. What you type is kept.", "网络已断开，你输入的内容不会丢。"],
  lost: ["The server cannot be reached. What you typed is kept.", "暂时连不上服务器，你输入的内容不会丢。"],
};
const LANGUAGE = /^zh/i.test(navigator.language) ? 1 : 0;

export function word(name, values = {}) {
  return WORDS[name][LANGUAGE].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

// data-word is what an element says, data-label what it is called.
export function translate() {
  document.documentElement.lang = ["en", "zh-CN"][LANGUAGE];
  for (const element of document.querySelectorAll("[data-word], [data-label]")) {
    const { label, word: text } = element.dataset;
    if (text) element.textContent = word(text);
    else element.ariaLabel = element.placeholder = word(label);
  }
}
