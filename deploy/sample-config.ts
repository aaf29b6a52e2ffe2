import { defaultTextOf, type Option, valueTextOf, variableOf } from '#core/cli/command.ts';

/** The width of a comment. */
const WIDTH = 118;

function comment(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > WIDTH) lines.push(`# ${word}`);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** What an option's line says: its default where that is a value that can be given, else what kind of value it takes. */
function example(option: Option): string {
  if (option.type === 'flag') return 'off';
  if (option.type === 'number' && option.defaultText !== undefined) return valueTextOf(option);
  return defaultTextOf(option) || valueTextOf(option);
}

/** A configuration file with all options of a command, each commented out. */
export function sampleConfig(command: string, options: Readonly<Record<string, Option>>): string {
  const head = [
    `# Options of gear ${command}. An option on the command line wins over its environment variable (${variableOf('log-level')} for log-level), that over`,
    '# this file, and this file over the default, which is what stands here commented out; where there is none, the kind of value stands here. A line',
    '# is a comment only if it begins with "#".',
  ];
  const blocks = Object.entries(options).map(([name, option]) => {
    const kind = option.type === 'choice' ? ` One of: ${option.choices.join(', ')}.` : '';
    const many = option.type === 'list' ? ' One line for each.' : '';
    const own = option.type === 'number' && option.defaultText !== undefined ? ` Default: ${option.defaultText}.` : '';
    const once = option.type === 'flag' ? ' on or off.' : '';
    const help = /[.!?]$/.test(option.help) ? option.help : `${option.help}.`;
    return [...comment(`${help}${kind}${many}${own}${once}`), `#${name} = ${example(option)}`].join('\n');
  });
  return `${[head.join('\n'), ...blocks].join('\n\n')}\n`;
}
