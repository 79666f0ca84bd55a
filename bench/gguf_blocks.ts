/**
 * gguf_blocks: weights to and from the block formats of GGUF, in plain arithmetic: independent of the engine's kernels, whose accuracy is judged
 * with them. Layouts are those of ggml (ggml-common.h block_*, ggml-quants.c).
 */
import { kTypes, type TensorType } from './gguf_writer.js';

const bits = new DataView(new ArrayBuffer(4));

/** The float16 with these bits. */
export function fromHalf(half: number): number {
  const [sign, exponent, fraction] = [half & 0x8000 ? -1 : 1, (half >>> 10) & 31, half & 1023];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Bits of the nearest float16, ties to even. */
export function toHalf(value: number): number {
  bits.setFloat32(0, value);
  const sign = (bits.getUint32(0) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = size < 2 ** -14 ? -14 : Math.floor(Math.log2(size));
  const step = 2 ** (exponent - 10); // between neighbours
  const steps = size / step; // exact: a power of two
  const whole = Math.floor(steps);
  const rest = steps - whole;
  const rounded = rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? whole + 1 : whole;
  // a carry into the exponent is the next float16
  return sign | (size < 2 ** -14 ? rounded : rounded - 1024 + (exponent + 15) * 1024);
}

// float16 of every 16 bits: dequantizing asks for it at every block
const kHalves = Float32Array.from({ length: 65536 }, (_, half) => fromHalf(half));
const halfAt = (bytes: Buffer, at: number): number => kHalves[bytes[at]! | (bytes[at + 1]! << 8)]!;
const int8 = (byte: number): number => (byte << 24) >> 24;

type Decode = (bytes: Buffer, at: number, out: Float32Array, to: number) => void;

const kDecoders: Record<TensorType, Decode> = {
  F32: (bytes, at, out, to) => void (out[to] = bytes.readFloatLE(at)),
  F16: (bytes, at, out, to) => void (out[to] = halfAt(bytes, at)),
  BF16: (bytes, at, out, to) => {
    bits.setUint32(0, (bytes[at]! | (bytes[at + 1]! << 8)) << 16);
    out[to] = bits.getFloat32(0);
  },
  // half d, int8 q[32]
  Q8_0: (bytes, at, out, to) => {
    const d = halfAt(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * int8(bytes[at + 2 + i]!);
  },
  // half d, 16 bytes of nibbles, each minus 8: the low ones come first
  Q4_0: (bytes, at, out, to) => {
    const d = halfAt(bytes, at);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 2 + i]!;
      out[to + i] = d * ((q & 15) - 8);
      out[to + 16 + i] = d * ((q >> 4) - 8);
    }
  },
  // half d, half dmin, 8 pairs of 6-bit scale and minimum in 12 bytes, nibbles: 64 elements share 32 bytes, low nibbles first
  Q4_K: (bytes, at, out, to) => {
    const [d, least] = [halfAt(bytes, at), halfAt(bytes, at + 2)];
    const s = (i: number): number => bytes[at + 4 + i]!;
    for (let j = 0; j < 8; j++) {
      const scale = j < 4 ? s(j) & 63 : (s(j + 4) & 15) | ((s(j - 4) >> 6) << 4);
      const minimum = j < 4 ? s(j + 4) & 63 : (s(j + 4) >> 4) | ((s(j) >> 6) << 4);
      const nibbles = at + 16 + 32 * (j >> 1);
      for (let i = 0; i < 32; i++) {
        const q = j % 2 === 0 ? bytes[nibbles + i]! & 15 : bytes[nibbles + i]! >> 4;
        out[to + 32 * j + i] = d * scale * q - least * minimum;
      }
    }
  },
  // 128 bytes of low nibbles, 64 of upper bit pairs, 16 int8 scales, half d; q minus 32
  Q6_K: (bytes, at, out, to) => {
    const d = halfAt(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      const [half, k, l] = [i >> 7, (i >> 5) & 3, i & 31];
      const low = bytes[at + 64 * half + 32 * (k & 1) + l]!;
      const upper = (bytes[at + 128 + 32 * half + l]! >> (2 * k)) & 3;
      const q = ((k < 2 ? low & 15 : low >> 4) | (upper << 4)) - 32;
      out[to + i] = d * int8(bytes[at + 192 + 8 * half + 2 * k + (l >> 4)]!) * q;
    }
  },
};

/** Whole blocks as float32. */
export function dequantize(type: TensorType, bytes: Buffer): Float32Array {
  const { elements, bytes: size } = kTypes[type];
  const out = new Float32Array((bytes.length / size) * elements);
  const decode = kDecoders[type];
  for (let block = 0; block * size < bytes.length; block++) decode(bytes, block * size, out, block * elements);
  return out;
}

/** What this can quantize to: the others need a search for their scales. */
export type PlainType = 'F32' | 'F16' | 'Q8_0' | 'Q4_0';

/** Numbers as whole blocks, rounded as ggml's reference does: Q8_0 by the largest magnitude / 127, Q4_0 by the number of largest magnitude / -8. */
export function quantize(type: PlainType, values: Float32Array): Buffer {
  const { elements, bytes } = kTypes[type];
  if (values.length % elements !== 0) throw new Error(`${values.length} numbers are no whole blocks of ${type}`);
  const out = Buffer.alloc((values.length / elements) * bytes);
  for (let block = 0; block * elements < values.length; block++) {
    const part = values.subarray(block * elements, (block + 1) * elements);
    const at = block * bytes;
    if (type === 'F32') out.writeFloatLE(part[0]!, at);
    else if (type === 'F16') out.writeUInt16LE(toHalf(part[0]!), at);
    else {
      const extreme = part.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
      const d = type === 'Q8_0' ? Math.abs(extreme) / 127 : extreme / -8;
      const inverse = d === 0 ? 0 : 1 / d;
      out.writeUInt16LE(toHalf(d), at);
      if (type === 'Q8_0') part.forEach((x, i) => out.writeInt8(Math.sign(x) * Math.round(Math.abs(x) * inverse), at + 2 + i));
      else {
        const nibble = (i: number): number => Math.min(15, Math.floor(part[i]! * inverse + 8.5));
        for (let i = 0; i < 16; i++) out[at + 2 + i] = nibble(i) | (nibble(16 + i) << 4);
      }
    }
  }
  return out;
}
