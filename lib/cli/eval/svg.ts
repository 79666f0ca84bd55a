/** svg: the strokes and words that plots are made of. */

/** Told apart also by people who see fewer colours (Okabe and Ito). */
export const kColours = ['#0072b2', '#d55e00', '#e69f00', '#000000', '#56b4e9', '#009e73', '#cc79a7', '#7f6000'];

export function line(x1: number, y1: number, x2: number, y2: number, colour: string, more = ''): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" ${more}/>`;
}

export function text(x: number, y: number, words: string, style: string): string {
  const escaped = words.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text x="${round(x)}" y="${round(y)}" ${style}>${escaped}</text>`;
}

/** To tenths of a unit. */
export const round = (value: number): number => Math.round(value * 10) / 10;
