import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { interruptible } from './interruptible.js';

/** Real templates take some hundred steps a message. */
const stepsAtLeast = 200_000;
const stepsPerMessage = 5_000;
/** Characters of a text, and items of a list. */
const sizeAtLeast = 1_000_000;
const itemsOfRange = 100_000;
const timeLimit = 20_000;

/** A chat template that comes with a model, from anywhere: it can neither loop for ever nor fill the memory. */
export class BoundedTemplate {
  private readonly template: Template;

  /** @throws Error when the source cannot be parsed */
  constructor(source: string) {
    this.template = new Template(source);
  }

  /** @throws Error of the template's, or that names the limit which it passed */
  render(variables: Record<string, unknown>, messages: readonly { role: string; content: string }[]): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...globals, ...variables, messages })) {
      environment.set(name, value);
    }
    const characters = messages.reduce((sum, { content }) => sum + content.length, 0);
    const interpreter = new BoundedInterpreter(
      environment,
      stepsAtLeast + stepsPerMessage * messages.length,
      sizeAtLeast + 8 * characters,
    );
    const run = (): unknown => interpreter.run(this.template.parsed).value;
    return interruptible(timeLimit, 'The chat template', run) as string;
  }
}

type Evaluate = Interpreter['evaluate'];

class BoundedInterpreter extends Interpreter {
  private steps = 0;

  constructor(
    environment: Environment,
    private readonly mostSteps: number,
    private readonly mostSize: number,
  ) {
    super(environment);
  }

  override evaluate(...[statement, environment]: Parameters<Evaluate>): ReturnType<Evaluate> {
    if (++this.steps > this.mostSteps) throw new Error(`it takes more than ${this.mostSteps} steps`);
    const result = super.evaluate(statement, environment);
    const { value } = result as { value: unknown };
    if ((typeof value === 'string' || Array.isArray(value)) && value.length > this.mostSize) {
      throw new Error(`it makes a text or list of more than ${this.mostSize} characters or items`);
    }
    return result;
  }
}

const formatNow = new Template('{{ strftime_now(format) }}');

/** What the library's own `render` gives to templates, with a limit on `range`. */
const globals: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  strftime_now: (format: string) => formatNow.render({ format }),
  raise_exception: (message: string) => {
    throw new Error(message);
  },
  range: (first: number, end?: number, step = 1): number[] => {
    const [from, to] = end === undefined ? [0, first] : [first, end];
    if (step === 0) throw new Error('range() step must not be zero');
    const length = Math.max(0, Math.ceil((to - from) / step));
    if (!(length <= itemsOfRange)) throw new Error(`it asks for a range of more than ${itemsOfRange} items`);
    return Array.from({ length }, (_, i) => from + i * step);
  },
};
