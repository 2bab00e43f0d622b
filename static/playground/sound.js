// Plays PCM as it comes: buffers scheduled back to back on the sample grid, at whatever lead they arrive.

const LEAD_S = 0.08; // what is kept in hand before the first sample, and after an underrun

let shared = null;

/** Return an AudioContext of this rate, so that nothing is resampled at a buffer's edge; call it in a user's gesture. */
function contextOf(hz) {
  if (shared && shared.sampleRate !== hz) {
    shared.close();
    shared = null;
  }
  shared ??= new AudioContext({ sampleRate: hz, latencyHint: "interactive" });
  return shared;
}

/** Let audio start: browsers want a click or a key for it. */
export function unlock(hz) {
  const context = contextOf(hz);
  if (context.state !== "running") context.resume().catch(() => {});
}

export function pcmOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const samples = new Float32Array(bytes.length >> 1);
  for (let place = 0; place < samples.length; place++) samples[place] = view.getInt16(place * 2, true) / 32768;
  return samples;
}

/** One reply's sound. Times in ms are counted from its first sample, gaps left out, as the words' times are. */
export class Playback {
  constructor(hz) {
    this.hz = hz;
    this.context = contextOf(hz);
    this.gain = this.context.createGain();
    this.meter = this.context.createAnalyser();
    this.meter.fftSize = 512;
    this.gain.connect(this.meter).connect(this.context.destination);
    this.frames = new Float32Array(this.meter.fftSize);
    this.samples = 0;
    this.underruns = [];
    this.spans = []; // {from, sample}: where the sample `sample` is heard at context frame `from`
    this.end = 0; // the context frame after the last one that is scheduled
    this.nodes = new Set();
    this.stoppedAt = null;
  }

  push(samples) {
    if (this.stoppedAt !== null || !samples.length) return;
    const now = this.context.currentTime * this.hz;
    if (!this.spans.length || this.end < now) {
      const from = Math.ceil(now + LEAD_S * this.hz);
      if (this.spans.length) this.underruns.push({ at: this.ms(this.samples), gap: this.ms(from - this.end), seen: performance.now() });
      this.spans.push({ from, sample: this.samples });
      this.end = from;
    }
    const buffer = this.context.createBuffer(1, samples.length, this.hz);
    buffer.copyToChannel(samples, 0);
    const node = this.context.createBufferSource();
    node.buffer = buffer;
    node.connect(this.gain);
    node.onended = () => this.nodes.delete(node);
    this.nodes.add(node);
    node.start(this.end / this.hz);
    this.end += samples.length;
    this.samples += samples.length;
  }

  ms(samples) {
    return (samples / this.hz) * 1000;
  }

  get totalMs() {
    return this.ms(this.samples);
  }

  /** What has been heard, in ms of the reply. */
  get heardMs() {
    if (this.stoppedAt !== null) return this.stoppedAt;
    const late = this.context.outputLatency || this.context.baseLatency || 0;
    const frame = (this.context.currentTime - late) * this.hz;
    let heard = 0;
    for (const [place, span] of this.spans.entries()) {
      const next = this.spans[place + 1]?.sample ?? this.samples;
      if (frame > span.from) heard = Math.min(next, span.sample + frame - span.from);
    }
    return this.ms(heard);
  }

  /** What is in hand: ms that are scheduled and not yet heard. */
  get leadMs() {
    return Math.max(0, this.totalMs - this.heardMs);
  }

  get isOver() {
    return this.stoppedAt !== null || this.totalMs - this.heardMs < 0.5;
  }

  get level() {
    if (this.isOver) return 0;
    this.meter.getFloatTimeDomainData(this.frames);
    let peak = 0;
    for (const frame of this.frames) peak = Math.max(peak, Math.abs(frame));
    return Math.min(1, peak);
  }

  stop() {
    this.stoppedAt = this.heardMs;
    for (const node of this.nodes) node.stop();
    this.nodes.clear();
    this.release();
  }

  release() {
    this.gain.disconnect();
    this.meter.disconnect();
  }
}
