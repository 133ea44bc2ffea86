import { createContext, runInContext } from 'node:vm';

/** The report's own script run on the report's own data, on a page that is nothing but boxes. */
export class Page {
  readonly elements = new Map<
    string,
    {
      innerHTML: string;
      textContent: string;
      value: string;
      max: string;
      clientWidth: number;
      listeners: Record<string, () => void>;
    }
  >();
  readonly context: object;
  private resized: (() => void)[] = [];

  private readonly script: string;

  constructor(
    html: string,
    readonly width = 1200,
  ) {
    for (const [, id] of html.matchAll(/ id="([^"]+)"/g)) this.add(id);
    this.element('data').textContent = /id="data">(.*?)<\/script>/s.exec(html)![1];
    const window = this.elements.get('moving-window');
    if (window) window.value = '16';
    this.script = /<script>(.*?)<\/script>/s.exec(html)![1];
    this.context = createContext({
      document: {
        getElementById: (id: string) => {
          const element = this.elements.get(id);
          return (
            element &&
            Object.assign(element, {
              addEventListener: (type: string, listener: () => void) => (element.listeners[type] = listener),
            })
          );
        },
        documentElement: { dataset: {} },
      },
      window: { addEventListener: (_: string, redraw: () => void) => this.resized.push(redraw) },
    });
  }

  run(): this {
    runInContext(this.script, this.context);
    return this;
  }

  element(id: string) {
    return this.elements.get(id)!;
  }

  resize(width: number): void {
    for (const element of this.elements.values()) element.clientWidth = width;
    for (const redraw of this.resized) redraw();
  }

  private add(id: string): void {
    this.elements.set(id, {
      innerHTML: '',
      textContent: '',
      value: '0',
      max: '',
      clientWidth: this.width,
      listeners: {},
    });
  }
}
