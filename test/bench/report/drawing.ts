/** Looks into what the report's page draws: SVG, parsed as a browser would. */
import { parseFragment, type DefaultTreeAdapterTypes } from 'parse5';

type Element = DefaultTreeAdapterTypes.Element;

/** A rectangle or circle with its title, or that of the group that it stands in. */
export interface Drawn {
  readonly title: string;
  readonly color: string | undefined;
  /** Whether its group is marked as accepted. */
  readonly on: boolean;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

interface NamedPath {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

function elements(node: DefaultTreeAdapterTypes.Node): Element[] {
  const below = 'childNodes' in node ? node.childNodes.flatMap(elements) : [];
  return 'tagName' in node ? [node, ...below] : below;
}

function attribute(element: Element, name: string): string | undefined {
  return element.attrs.find((each) => each.name === name)?.value;
}

function number(element: Element, name: string): number {
  return Number(attribute(element, name) ?? 0);
}

function titleOf(element: Element): string | undefined {
  const title = element.childNodes.find(
    (node): node is Element => 'tagName' in node && node.tagName === 'title',
  );
  return title?.childNodes.map((node) => ('value' in node ? node.value : '')).join('');
}

/** What is drawn with a title. */
export function titled(svg: string): Drawn[] {
  return elements(parseFragment(svg)).flatMap((element) => {
    if (!['rect', 'circle'].includes(element.tagName)) return [];
    const group = element.parentNode as Element;
    const title = titleOf(element) ?? titleOf(group);
    if (title === undefined) return [];
    const radius = number(element, 'r');
    return [
      {
        title,
        color: attribute(element, 'fill'),
        on: / on$/.test(attribute(group, 'class') ?? ''),
        x: number(element, radius ? 'cx' : 'x') - radius,
        y: number(element, radius ? 'cy' : 'y') - radius,
        width: radius ? 2 * radius : number(element, 'width'),
        height: radius ? 2 * radius : number(element, 'height'),
      },
    ];
  });
}

/** The lines of a chart, with their names. */
export function pathPoints(svg: string): NamedPath[] {
  return elements(parseFragment(svg)).flatMap((element) => {
    const name = titleOf(element);
    if (element.tagName !== 'path' || name === undefined) return [];
    const points = [...attribute(element, 'd')!.matchAll(/[ML]([\d.-]+) ([\d.-]+)/g)];
    return [{ name, points: points.map(([, x, y]) => ({ x: Number(x), y: Number(y) })) }];
  });
}

/** How many shapes and texts a drawing has, and those whose corner or anchor lies outside of it. */
export function inDrawing(svg: string): { count: number; outside: string[] } {
  const [root, ...all] = elements(parseFragment(svg));
  const [right, bottom] = [number(root, 'width'), number(root, 'height')];
  const isOutside = (element: Element): boolean => {
    const xs = ['x', 'x1', 'x2', 'cx'].map((name) => number(element, name));
    const ys = ['y', 'y1', 'y2', 'cy'].map((name) => number(element, name));
    if (element.tagName === 'rect') {
      xs.push(number(element, 'x') + number(element, 'width'));
      ys.push(number(element, 'y') + number(element, 'height'));
    }
    if (element.tagName === 'path') {
      for (const { x, y } of pathPoints(
        `<svg><path d="${attribute(element, 'd')}"><title></title></path></svg>`,
      )[0].points) {
        xs.push(x);
        ys.push(y);
      }
    }
    return [...xs.map((x) => [x, right]), ...ys.map((y) => [y, bottom])].some(
      ([value, most]) => !(value >= 0 && value <= most + 0.5),
    );
  };
  const shapes = all.filter(({ tagName }) => !['title', 'g'].includes(tagName));
  return {
    count: shapes.length,
    outside: shapes
      .filter(isOutside)
      .map(
        ({ tagName, attrs }) => `${tagName} ${attrs.map(({ name, value }) => `${name}=${value}`).join(' ')}`,
      ),
  };
}
