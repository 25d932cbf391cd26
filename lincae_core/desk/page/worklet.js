// Plays a stream from a ring buffer. Chunks have a place in the stream, so that what was not played yet can be replaced.

const SIZE = 1 << 18; // samples
const REPORT = 1024; // samples between two reports
const FIRST = 12288; // samples to have before playing begins

class Stream extends AudioWorkletProcessor {
  constructor() {
    super();
    this.rings = [new Float32Array(SIZE), new Float32Array(SIZE)];
    this.generation = -1;
    this.reset();
    this.port.onmessage = ({ data }) => {
      if (data.type === "reset") {
        this.generation = data.generation;
        this.reset();
      } else if (data.type === "stop") {
        this.stopping = true;
      } else if (data.generation === this.generation) {
        if (data.type === "end") this.last = data.samples;
        else this.write(data.stream, data.channels);
      }
    };
  }

  reset() {
    this.at = this.end = 0;
    this.last = Infinity;
    this.running = this.stopping = false;
    this.gain = 0;
    this.gaps = 0;
    this.since = 0;
    this.peak = [0, 0];
    this.power = [0, 0];
  }

  write(stream, channels) {
    for (let c = 0; c < 2; c++) {
      const ring = this.rings[c];
      const data = channels[Math.min(c, channels.length - 1)];
      for (let i = Math.max(0, this.at - stream); i < data.length; i++) ring[(stream + i) % SIZE] = data[i];
    }
    this.end = Math.max(this.end, stream + channels[0].length);
  }

  process(inputs, [output]) {
    const count = output[0].length;
    const ahead = Math.min(this.end, this.last) - this.at;
    if (!this.running && !this.stopping && (ahead >= FIRST || (ahead > 0 && this.last < Infinity))) this.running = true;
    if (!this.running) return true;
    if (ahead < count && this.last === Infinity) {
      this.running = false; // waits for more
      this.gaps++;
      this.gain = 0;
      this.report();
      return true;
    }
    for (let i = 0; i < count; i++) {
      this.gain = Math.min(1, Math.max(0, this.gain + (this.stopping ? -1 : 1) / 256)); // no clicks
      for (let c = 0; c < output.length; c++) {
        const x = i < ahead ? this.gain * this.rings[c % 2][(this.at + i) % SIZE] : 0;
        output[c][i] = x;
        this.peak[c % 2] = Math.max(this.peak[c % 2], Math.abs(x));
        this.power[c % 2] += x * x;
      }
    }
    this.at += Math.min(count, Math.max(ahead, 0));
    this.since += count;
    const ended = this.at >= this.last || (this.stopping && this.gain === 0);
    if (ended) this.running = false;
    if (ended || this.since >= REPORT) this.report(ended);
    return true;
  }

  report(ended = false) {
    const rms = this.power.map((p) => Math.sqrt(p / Math.max(this.since, 1)));
    const { generation, at, peak, gaps } = this;
    this.port.postMessage({ generation, samples: at, time: currentTime, peak, rms, gaps, ended: ended && at >= this.last });
    this.since = 0;
    this.peak = [0, 0];
    this.power = [0, 0];
  }
}

registerProcessor("stream", Stream);
