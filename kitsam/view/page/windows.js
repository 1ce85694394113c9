// Window presets of CT, HU: what radiologists call them, their width and level.

export const PRESETS = [
  { name: 'abdomen', width: 400, level: 40 },
  { name: 'kidney', width: 380, level: 110 }, // enhanced cortex reaches 250 HU and saturates in the abdomen's
  { name: 'bone', width: 1800, level: 400 },
  { name: 'lung', width: 1500, level: -600 },
];

export const limits = ({ width, level }) => [level - width / 2, level + width / 2];
