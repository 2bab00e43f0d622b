// The same request in other forms: curl, Python, Node, and the request body that starts an Agora agent.

import { languageNow, t } from "./texts.js";

export const FORMS = [
  ["curl", "curl"],
  ["python", "Python"],
  ["node", "Node.js"],
  ["agora", "Agora"],
];

/** Return the text; `asked` is {endpoint, url, body, session, needsKey, model}. The key is never in it. */
export function snippet(form, asked) {
  return { curl, python, node, agora }[form](asked);
}

function curl({ url, body, session, needsKey }) {
  const lines = [`curl -N ${quoted(url)}`, `-H 'Content-Type: application/json'`];
  if (needsKey) lines.push(`-H "Authorization: Bearer $KEY"`);
  if (session) lines.push(`-H ${quoted(`X-Session-Id: ${session}`)}`);
  lines.push(`-d ${quoted(inLines(body))}`);
  return lines.join(" \\\n  ");
}

/** Write a body as JSON with each message on a line of its own. */
function inLines(body) {
  const messages = body.messages.map((message) => `    ${JSON.stringify(message)}`).join(",\n");
  return JSON.stringify({ ...body, messages: 0 }).replace('"messages":0', () => `"messages":[\n${messages}\n  ]`);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function python({ endpoint, url, body, session, model }) {
  const { stream, messages, ...rest } = { ...body, model: body.model || model || "default" };
  const own = ["model", "temperature", "stream_options"];
  const extra = Object.fromEntries(Object.entries(rest).filter(([name]) => !own.includes(name)));
  const given = [
    `    model=${pythonic(rest.model)},`,
    `    messages=${pythonic(messages, 1)},`,
    ...own.slice(1).flatMap((name) => (name in rest ? [`    ${name}=${pythonic(rest[name])},`] : [])),
    ...(Object.keys(extra).length ? [`    extra_body=${pythonic(extra)},`] : []),
    ...(session ? [`    extra_headers={"X-Session-Id": ${pythonic(session)}},`] : []),
    "    stream=True,",
  ];
  return [
    ...(endpoint.audio ? ["import base64", "import os", "import wave"] : ["import os"]),
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${pythonic(baseOf(url))}, api_key=os.environ.get("KEY") or "none")  # $KEY`,
    "stream = client.chat.completions.create(",
    ...given,
    ")",
    ...(endpoint.audio ? pythonAudio : pythonText),
    "",
  ].join("\n");
}

const pythonText = [
  "for chunk in stream:",
  "    if chunk.choices:",
  '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  "print()",
];

const pythonAudio = [
  'with wave.open("reply.wav", "wb") as file:',
  "    file.setnchannels(1)",
  "    file.setsampwidth(2)",
  "    file.setframerate(16000)",
  "    for chunk in stream:",
  '        audio = chunk.choices and chunk.choices[0].delta.model_dump().get("audio")',
  "        if audio:",
  '            print(audio.get("transcript") or "", end="", flush=True)',
  '            file.writeframes(base64.b64decode(audio.get("data") or ""))',
  "print()",
];

function pythonic(value, depth = 0) {
  const pad = "    ".repeat(depth);
  if (Array.isArray(value)) return `[\n${value.map((each) => `${pad}    ${pythonic(each, depth + 1)},\n`).join("")}${pad}]`;
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${pythonic(each, depth)}`).join(", ")}}`;
}

function node({ endpoint, url, body, session, model }) {
  const { stream, ...rest } = { ...body, model: body.model || model || "default" };
  const params = JSON.stringify({ ...rest, stream: true }, null, 2);
  const headers = session ? `,\n  defaultHeaders: { "X-Session-Id": ${JSON.stringify(session)} }` : "";
  const said = endpoint.audio ? "choices[0]?.delta?.audio?.transcript" : "choices[0]?.delta?.content";
  return `import OpenAI from "openai";

const client = new OpenAI({
  baseURL: ${JSON.stringify(baseOf(url))},
  apiKey: process.env.KEY || "none", // $KEY${headers.replace(/^,/, "")}
});
const stream = await client.chat.completions.create(${params});
for await (const chunk of stream) process.stdout.write(chunk.${said} ?? "");
process.stdout.write("\\n");
`;
}

const baseOf = (url) => url.replace(/\/chat\/completions$/, "");

function agora({ endpoint, url, body, model }) {
  const system = body.messages.filter(({ role }) => role === "system").map(({ role, content }) => ({ role, content }));
  const isChinese = languageNow() === "zh";
  const params = { model: body.model || model || "default" };
  if (body.temperature !== undefined) params.temperature = body.temperature;
  const properties = {
    channel: "my-channel",
    token: "the agent's RTC token for this channel",
    agent_rtc_uid: "1001",
    remote_rtc_uids: ["1002"],
    idle_timeout: 120,
    asr: { language: isChinese ? "zh-CN" : "en-US" },
    llm: {
      vendor: "custom",
      url,
      api_key: "$KEY",
      system_messages: system.length ? system : [{ role: "system", content: SYSTEM[isChinese ? 1 : 0] }],
      greeting_message: GREETING[isChinese ? 1 : 0],
      failure_message: FAILURE[isChinese ? 1 : 0],
      max_history: 32,
      input_modalities: ["text"],
      output_modalities: [endpoint.audio ? "audio" : "text"],
      params,
    },
  };
  if (!endpoint.audio)
    properties.tts = {
      vendor: "microsoft",
      params: { key: "your TTS key", region: "eastus", voice_name: VOICE[isChinese ? 1 : 0] },
    };
  return `${JSON.stringify({ name: "my-agent-1", properties }, null, 2)}\n`;
}

const SYSTEM = [
  "You are a friendly receptionist. Answer in one or two short sentences.",
  "你是一位亲切的前台，请用一两句话简短回答。",
];
const GREETING = ["Hello! How can I help you?", "你好！有什么可以帮你？"];
const FAILURE = ["Sorry, something went wrong. Could you say that again?", "抱歉，出了点问题，请再说一遍好吗？"];
const VOICE = ["en-US-AndrewMultilingualNeural", "zh-CN-XiaoxiaoMultilingualNeural"];

export function notesOn(form, url) {
  if (form !== "agora") return [t("copy_about")];
  const isLocal = /^(localhost|127\.|\[::1\]|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/.test(new URL(url).hostname);
  return [t("copy_agora"), ...(isLocal ? [t("copy_local")] : [])];
}
