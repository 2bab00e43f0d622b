// All that the page says, in English and Simplified Chinese.

const TEXTS = {
  title: ["Playground", "试用台"],
  new: ["New conversation", "新对话"],
  endpoint: ["Endpoint", "接口"],
  settings: ["Settings", "设置"],
  conversation: ["Conversation", "对话"],
  inspector: ["What happened", "过程"],
  you: ["You", "你"],
  agent: ["Agent", "智能体"],
  message: ["Your message", "你要说的话"],
  placeholder: ["Say something to the agent", "对智能体说点什么"],
  send: ["Send", "发送"],
  stop: ["Stop", "打断"],
  hint: ["Enter sends, Shift+Enter starts a line, Esc interrupts.", "回车发送，Shift+回车换行，Esc 打断。"],
  demo: ["demo model", "演示模型"],
  demo_about: [
    "The built-in demo model answers: it only quotes what it was given. Set LLM_API_KEY or LLM_BASE_URL for a real one.",
    "回答的是内置的演示模型，它只会引用已有的内容。想用真正的大模型，请设置 LLM_API_KEY 或 LLM_BASE_URL。",
  ],
  about_chat: ["the language model, relayed", "直接转发给大模型"],
  about_rag: ["answers from your documents", "根据你的文档回答"],
  about_own: ["an agent of your own", "你自己的智能体"],
  about_spoken: ["{about}, spoken", "{about}，用语音"],
  empty: ["Talk to your agent", "和你的智能体说句话"],
  empty_about: [
    "You hear and read what a caller would, and see beside it what happened and when.",
    "这里听到、看到的和来电者一样；旁边可以看到每一步发生在什么时候。",
  ],
  try_1: ["Hello!", "你好！"],
  try_2: ["How do I connect a real LLM?", "怎么接入真正的大模型？"],
  try_3: ["What happens when I interrupt?", "打断智能体会怎么样？"],

  state_waiting: ["waiting for the first byte", "正在等第一个字节"],
  state_streaming: ["answering", "正在回答"],
  state_speaking: ["speaking", "正在说话"],
  state_done: ["done", "完成"],
  state_stopped: ["interrupted", "已打断"],
  state_failed: ["failed", "失败"],
  retry: ["Try again", "重试"],
  details: ["Show what happened in turn {n}", "查看第 {n} 轮的过程"],
  findings: ["{n} to look at", "{n} 处需留意"],
  kept: ["contract kept", "符合约定"],
  runs_tools: ["asks the engine to run {names}", "要引擎运行 {names}"],
  said_nothing: ["nothing was said", "什么也没说"],
  live_answer: ["Agent: {text}", "智能体：{text}"],
  live_stopped: ["Interrupted. Heard: {text}", "已打断。听到的是：{text}"],

  player: ["{heard} of {total} s heard, {lead} s in hand", "已听 {heard} 秒，共 {total} 秒，余量 {lead} 秒"],
  underruns: ["underruns: {n}", "断音：{n} 次"],
  level: ["Level", "音量"],
  blocked: [
    "This browser holds the sound back until you click the page.",
    "浏览器要你先点一下页面，才会放出声音。",
  ],

  tab_turn: ["Timeline", "时间线"],
  tab_events: ["Events", "事件"],
  tab_sources: ["Sources", "依据"],
  tab_copy: ["Copy as", "复制为"],
  none_yet: ["Nothing yet: say something first.", "还没有内容：先说一句话。"],
  turn: ["Turn {n}", "第 {n} 轮"],
  last_turns: ["Last turns: first sound or sentence", "最近几轮：第一段声音或第一句"],
  step: ["Step", "步骤"],
  at: ["At", "时刻"],
  server_said: ["Server", "服务端"],
  request: ["request", "发出请求"],
  headers: ["headers", "响应头"],
  first_byte: ["first byte", "第一个字节"],
  first_sentence: ["first sentence", "第一句"],
  first_audio: ["first audio", "第一段声音"],
  end: ["end", "结束"],
  knowledge: ["looking up", "检索"],
  upstream_first_byte: ["first byte from the LLM", "大模型第一个字节"],
  total: ["total", "总共"],
  chart: ["Timeline of turn {n}; the table below says the same.", "第 {n} 轮的时间线，下面的表格内容相同。"],
  scrub: ["Chunk", "数据块"],
  chunk_at: [
    "{n} of {all}: {kind}, at {at} ms, {gap} ms after the one before, {size} bytes",
    "第 {n} 块，共 {all} 块：{kind}，{at} 毫秒，距上一块 {gap} 毫秒，{size} 字节",
  ],
  chunk_first: [
    "1 of {all}: {kind}, at {at} ms, {size} bytes",
    "第 1 块，共 {all} 块：{kind}，{at} 毫秒，{size} 字节",
  ],
  tokens: ["{n} tokens", "{n} 个 token"],
  verdict: ["The contract", "约定"],
  verdict_kept: [
    "Kept: one id, a finish, a proper end, and nothing late.",
    "符合：id 始终一致，有结束标记，正常收尾，没有迟到。",
  ],
  verdict_live: ["Still being looked at.", "还在检查。"],
  verdict_stopped: ["You interrupted; up to there nothing was wrong.", "你打断了它；到那时为止没有问题。"],
  verdict_failed: ["The answer failed, and the server said so properly.", "回答失败了，服务端如实说明了。"],
  more: ["… and {n} more like it", "……还有 {n} 处同样的问题"],

  filter: ["Filter", "筛选"],
  filter_text: ["Text in the event", "事件里的文字"],
  kind: ["Kind", "种类"],
  kind_all: ["all", "全部"],
  kind_text: ["text", "文字"],
  kind_audio: ["audio", "声音"],
  kind_words: ["words", "词的时间"],
  kind_tools: ["tools", "工具"],
  kind_waiting: ["waiting message", "等待语"],
  kind_role: ["role", "角色"],
  kind_control: ["control", "控制"],
  kind_finish: ["finish", "结束标记"],
  kind_usage: ["usage", "用量"],
  kind_trace: ["trace", "跟踪"],
  kind_error: ["error", "错误"],
  kind_comment: ["comment", "注释"],
  kind_done: ["[DONE]", "[DONE]"],
  kind_odd: ["odd", "异常"],
  kind_empty: ["empty", "空"],
  kind_other: ["other", "其他"],
  event_list: ["Events of turn {n}", "第 {n} 轮的事件"],
  event_count: ["{n} of {all} events", "{n} / {all} 个事件"],
  event_dropped: ["; {n} more were not kept", "；另有 {n} 个没有保留"],
  event_open: ["Event {n}", "事件 {n}"],
  event_pick: ["Choose an event to read all of it.", "选一个事件查看全文。"],
  shortened: ["… {n} characters", "…… 共 {n} 个字符"],

  passages: ["Passages", "检索到的段落"],
  score: ["score {n}", "得分 {n}"],
  no_passages: ["None were retrieved for this turn.", "这一轮没有检索到段落。"],
  tools: ["Tool calls", "工具调用"],
  no_tools: ["No tool was called.", "没有调用工具。"],
  arguments: ["Arguments", "参数"],
  result: ["Result", "结果"],
  tool_failed: ["failed", "失败"],
  by_engine: ["for the engine to run", "由引擎运行"],
  no_trace: [
    "The server told nothing about its sources for this turn.",
    "这一轮服务端没有说明依据。",
  ],

  copy: ["Copy", "复制"],
  copied: ["Copied.", "已复制。"],
  copy_form: ["Form", "形式"],
  copy_about: [
    "This asks what the page asks; put your key into the variable KEY.",
    "内容和本页发出的请求一样；密钥请放进变量 KEY。",
  ],
  copy_agora: [
    "Put your key in the place of $KEY. The engine is in the cloud: this address must be reachable from there.",
    "请把 $KEY 换成你的密钥。引擎在云端，这个地址必须能从公网访问。",
  ],
  copy_local: [
    "This page is open on a local address: put your server's public one in its place.",
    "本页打开的是本机地址：请换成服务的公网地址。",
  ],

  model: ["Model", "模型"],
  model_default: ["the server's own: {name}", "服务端默认：{name}"],
  model_unset: ["the server's own", "服务端默认"],
  temperature: ["Temperature", "温度"],
  unset: ["not sent", "不发送"],
  key: ["Key", "密钥"],
  key_about: [
    "One of SERVER_API_KEYS (or LLM_API_KEY). It stays in this tab, and is forgotten with it.",
    "SERVER_API_KEYS 中的一个（或 LLM_API_KEY）。只存在这个标签页里，关闭即忘。",
  ],
  session: ["Session id", "会话 id"],
  session_about: ["Sent as X-Session-Id.", "作为 X-Session-Id 发送。"],
  system: ["System message", "系统提示"],
  usage: ["Ask for usage", "要用量"],
  extras: ["Send what the engine adds", "带上引擎附加的字段"],
  extras_about: [
    "turn_id, timestamp, metadata, and what of an answer was heard.",
    "turn_id、timestamp、metadata，以及回答中听到了哪些。",
  ],
  save: ["Save", "保存"],
  cancel: ["Cancel", "取消"],

  gone: ["The server can't be reached.", "连不上服务。"],
  gone_about: [
    "Is it running at {origin}? Start it with script/server, then try again.",
    "它在 {origin} 运行吗？用 script/server 启动，然后重试。",
  ],
  wrong_key: ["The key is wrong.", "密钥不对。"],
  wrong_key_about: [
    "Enter another: one of SERVER_API_KEYS, or LLM_API_KEY, from the server's .env.",
    "请换一个：服务端 .env 里 SERVER_API_KEYS 中的一个，或 LLM_API_KEY。",
  ],
  need_key: ["This server wants a key.", "这个服务要密钥。"],
  need_key_about: [
    "Enter one of SERVER_API_KEYS, or LLM_API_KEY, from the server's .env; where it has neither, your LLM's own key.",
    "请输入服务端 .env 里 SERVER_API_KEYS 中的一个，或 LLM_API_KEY；如果两者都没有，就输入你自己的大模型密钥。",
  ],
  enter_key: ["Enter the key", "输入密钥"],
  http_failed: ["The server answered {status}.", "服务返回了 {status}。"],
  stream_failed: ["The answer failed.", "回答失败了。"],
  cut_off: ["The connection broke before the answer ended.", "回答还没结束，连接就断了。"],
  mend_400: ["Look at the request in “Copy as”, and at the settings.", "请检查“复制为”里的请求，以及设置。"],
  mend_404: ["This endpoint is not there any more; load the page again.", "这个接口已经不在了，请重新加载页面。"],
  mend_429: ["Too many requests: wait a little, then try again.", "请求太多：稍等一会儿再试。"],
  mend_500: ["The server's log says why; look for {id}.", "原因在服务端日志里，请查找 {id}。"],
  mend_503: ["It is busy, or about to end: wait a little, then try again.", "它正忙，或者即将关闭：稍等一会儿再试。"],
  mend_502: [
    "The language model behind the server failed: check LLM_BASE_URL, LLM_API_KEY and LLM_MODEL.",
    "服务后面的大模型出错了：请检查 LLM_BASE_URL、LLM_API_KEY 和 LLM_MODEL。",
  ],

  odd_field: [
    "A line `{field}:` was sent; some clients break on anything but `data:` and comments.",
    "发来了 `{field}:` 行；除 `data:` 和注释之外的行会让一些客户端出错。",
  ],
  unfinished_event: ["The last event has no empty line after it.", "最后一个事件后面没有空行。"],
  after_done: ["Something came after [DONE].", "[DONE] 之后还有内容。"],
  no_json: ["Event {n} is not JSON.", "第 {n} 个事件不是 JSON。"],
  error_after_finish: ["An error came after the finish.", "结束标记之后又报了错误。"],
  after_error: ["Something came after the error.", "错误之后还有内容。"],
  late_control: ["The control chunk is not the first.", "控制块不是第一个。"],
  no_choices: ["Chunk {n} has neither choices nor usage.", "第 {n} 块既没有 choices 也没有用量。"],
  after_usage: ["Something came after the usage.", "用量之后还有内容。"],
  wrong_object: [
    "`object` is {object} instead of chat.completion.chunk: a client drops the text.",
    "`object` 是 {object}，应为 chat.completion.chunk：有的客户端会丢掉文字。",
  ],
  missing_field: ["A chunk has no `{field}`.", "有的块缺少 `{field}`。"],
  late_waiting: ["A waiting message came after the answer had begun.", "回答开始之后才发来等待语。"],
  changed_id: ["The id changed from {first} to {then}.", "id 从 {first} 变成了 {then}。"],
  changed_created: ["`created` changed within the answer.", "`created` 在回答中途变了。"],
  usage_again: ["Usage was sent more than once; a client adds it up.", "用量发了不止一次，有的客户端会重复累加。"],
  usage_unasked: ["Usage was sent, and nobody asked for it.", "没有要用量，却发来了。"],
  usage_shares: ["Usage shares a chunk with an answer; it belongs alone and last.", "用量和回答在同一块里；它应该单独放在最后。"],
  no_usage: ["No usage came, though it was asked for.", "要了用量，但没有发来。"],
  no_role: ["The first chunk does not say `role: assistant`.", "第一块没有 `role: assistant`。"],
  role_again: ["The role was sent again; a client joins them.", "角色又发了一次，有的客户端会把它们连起来。"],
  after_finish: ["Something was said after the finish.", "结束标记之后还有内容。"],
  finish_shares: ["The finish shares a chunk with what is said.", "结束标记和内容在同一块里。"],
  late_first: [
    "The first words came after {ms} ms; engines give up after 3 to 20 s.",
    "{ms} 毫秒后才有第一个词；引擎等 3 到 20 秒就会放弃。",
  ],
  late_chunk: ["{ms} ms of silence before chunk {n}.", "第 {n} 块之前有 {ms} 毫秒没有动静。"],
  changed_audio_id: ["The audio's id changed.", "声音的 id 变了。"],
  word_fields: [
    "The word {word} lacks one of text, start_ts, end_ts, duration.",
    "词 {word} 缺少 text、start_ts、end_ts、duration 中的一项。",
  ],
  word_order: ["The word {word} is out of order in time.", "词 {word} 的时间顺序不对。"],
  word_length: ["The word {word} does not last what its times say.", "词 {word} 的时长和起止时间不符。"],
  word_outside: [
    "Words reach to {ms} ms, but there are only {audio} ms of audio.",
    "词的时间到 {ms} 毫秒，但声音只有 {audio} 毫秒。",
  ],
  no_base64: ["Audio data is no base64.", "声音数据不是 base64。"],
  odd_bytes: ["{bytes} bytes of audio in a chunk: half a sample is left over.", "一块里有 {bytes} 字节声音：多出半个采样。"],
  no_transcript: ["Audio came without a transcript: the agent forgets what it said.", "有声音却没有文字稿：智能体会忘记自己说过什么。"],
  underrun: ["The sound ran out for {ms} ms: a caller hears a gap.", "声音断了 {ms} 毫秒，来电者会听到停顿。"],
  cut: ["The connection broke in the middle.", "连接中途断了。"],
  no_finish: [
    "There is no finish_reason: some clients take that for success, others fail.",
    "没有 finish_reason：有的客户端当作成功，有的会报错。",
  ],
  no_done: ["There is no [DONE] at the end: a TTS may wait for ever.", "结尾没有 [DONE]：TTS 可能一直等下去。"],
  no_stream: ["It was not streamed: the content type is {type}.", "回答不是流：内容类型是 {type}。"],
};

let language = "en";

export const languageNow = () => language;

/** Take the reader's own choice, else the browser's language. */
export function chooseLanguage(chosen) {
  language = chosen ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = `${t("title")} · custom-llm-server`;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", t(element.dataset.label));
  for (const element of document.querySelectorAll("[data-hint]")) element.placeholder = t(element.dataset.hint);
}

export const isText = (name) => Object.hasOwn(TEXTS, name);

/** Return a text with its {values}; numbers are rounded. */
export function t(name, values = {}) {
  const text = TEXTS[name][language === "zh" ? 1 : 0];
  return text.replace(/\{(\w+)\}/g, (all, key) => {
    const value = values[key];
    return typeof value === "number" && !Number.isInteger(value) ? String(Math.round(value)) : String(value ?? all);
  });
}
