import type { Draft } from './types.js';

/** Science and engineering: explanations and estimates. */
export const stem: readonly Draft[] = [
  {
    turns: [
      'Why is the sky blue, and why is it red at sunset?',
      'What colour does the sky have on Mars at sunset, and why is it different?',
    ],
  },
  {
    turns: [
      'Explain how a vaccine prepares the body for an infection.',
      'Why do some vaccines need a booster after years while others do not?',
    ],
  },
  {
    turns: [
      'How does a refrigerator move heat from a cold place to a warm one? Describe the cycle in four steps.',
      'Does leaving its door open cool the kitchen? Explain with an energy balance.',
    ],
  },
  {
    turns: [
      'What happens in a candle flame? Describe what burns and where the light comes from.',
      'How would the flame look without gravity, and why?',
    ],
  },
  {
    turns: [
      'Explain the difference between weather and climate with two examples.',
      'How can scientists know the temperature of the Earth a hundred thousand years ago?',
    ],
  },
  {
    turns: [
      'How does a hash table find an entry in constant time on average? What goes wrong in the worst case?',
      'Compare it with a balanced search tree: when would you choose which?',
    ],
  },
  {
    turns: [
      'Estimate how many litres of water flow from a dripping tap in a year. State your assumptions.',
      'How would you test your estimate with a glass and a watch? What are the sources of error?',
    ],
  },
  {
    turns: [
      'Describe how plants take up water and lift it to the leaves without a pump.',
      'What limits the height of trees, then?',
    ],
  },
  {
    turns: [
      'Explain how GPS finds a position from satellite signals.',
      'Why must the clocks of the satellites be corrected for relativity?',
    ],
  },
  {
    turns: [
      'What is the difference between nuclear fission and fusion, and why do both release energy?',
      'Why is a fusion power station so much harder to build than a fission one?',
    ],
  },
];
